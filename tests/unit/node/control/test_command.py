"""``dispy node status`` and its like: which node is meant, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dispy.errors import UsageError
from dispy_node.command import node
from dispy_node.control import command
from dispy_node.control.client import Found
from dispy_node.settings import NodeSettings

STATUS: dict[str, Any] = {
    "node": "worker",
    "process": 5,
    "addresses": ["tcp:0.0.0.0:51348"],
    "state": "open",
    "reason": None,
    "slots": 2,
    "served": 3,
    "serve_left": None,
    "service_hours": None,
    "jobs": {"taken": 9, "ended": 8, "rejected": 0},
    "clients": [],
    "computations": [],
}


class World:
    """Nodes that run, and what they were asked."""

    def __init__(self) -> None:
        self.nodes = [Found(Path("/f"), STATUS)]
        self.searches: list[tuple[int, str, bool]] = []
        self.asked: list[tuple[Path, dict[str, Any]]] = []

    def find(self, settings: NodeSettings, *, port_given: bool) -> list[Found]:
        self.searches.append((settings.dispy_port, settings.dest_path_prefix, port_given))
        return self.nodes

    def ask(self, folder: Path, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("cpus") == 99:
            raise UsageError("--cpus 99 does not fit this machine")
        self.asked.append((folder, request))
        return STATUS | {"state": "draining", "reason": "it is about to end"}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(command, "find_nodes", made.find)
    monkeypatch.setattr(command, "ask", made.ask)
    return made


def call(*words: str) -> Result:
    return CliRunner().invoke(node, words)


def test_status(world: World) -> None:
    result = call("status")
    assert result.exit_code == 0, result.output
    assert "node worker, process 5, at tcp:0.0.0.0:51348\n  state         open\n" in result.output
    assert json.loads(call("status", "--json").output) == [STATUS]
    assert world.asked == []


def test_status_in_full() -> None:
    client = {"name": "laptop\x1b", "id": "c", "connected": False, "results_kept": 4}
    one = {"name": "f", "client": "laptop", "state": "ready", "running": 1, "waiting": 2}
    full = {"clients": [client], "computations": [one], "serve_left": 1, "service_hours": "08:00 to 17:00"}
    text = command.show_status(STATUS | full | {"state": "paused", "reason": "its hours"})
    assert "state         paused: its hours" in text
    assert "served        3 computations, 1 left" in text
    assert "hours         08:00 to 17:00" in text
    assert "away, 4 results kept" in text
    assert "\x1b" not in text
    assert "computation   f of laptop: ready, 1 jobs run, 2 wait" in text


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (["drain"], {"do": "drain"}),
        (["stop"], {"do": "stop"}),
        (["cpus", "3"], {"do": "cpus", "cpus": 3}),
        (["cpus", "-1"], {"do": "cpus", "cpus": -1}),
        (["cpus", "all"], {"do": "cpus", "cpus": "all"}),
    ],
)
def test_requests(world: World, words: list[str], request_: dict[str, Any]) -> None:
    result = call(*words)
    assert result.exit_code == 0, result.output
    assert world.asked == [(Path("/f"), request_)]
    assert "draining: it is about to end" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("cpus many", "'many' is no number of CPUs"),
        ("cpus --jsn", "'--jsn' is no number of CPUs"),
        ("cpus 99", "--cpus 99 does not fit this machine"),
        ("cpus", "Missing argument"),
        ("dance", "No such command 'dance'"),
    ],
)
def test_wrong_usage(world: World, words: str, message: str) -> None:
    result = call(*words.split())
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert world.asked == []


@pytest.mark.parametrize(
    "words",
    [
        ["drain", "-p", "4000", "--dest-path-prefix", "/d", "--name", "worker"],
        ["-p", "4000", "--dest_path_prefix", "/d", "--name", "worker", "drain"],
    ],
)
def test_which_node_is_said_before_or_behind_the_command(world: World, words: list[str]) -> None:
    assert call(*words).exit_code == 0
    assert world.searches == [(4000, "/d", True)]


def test_several_nodes(world: World) -> None:
    world.nodes = [*world.nodes, Found(Path("/g"), STATUS | {"node": "other"})]
    result = call("drain")
    assert result.exit_code == 2
    assert "several nodes run here" in result.output
    assert call("drain", "--name", "other").exit_code == 0
    assert world.asked == [(Path("/g"), {"do": "drain"})]
    assert [one["node"] for one in json.loads(call("status", "--json").output)] == ["worker", "other"]
    assert [one["node"] for one in json.loads(call("status", "--json", "--name", "other").output)] == [
        "other"
    ]


def test_no_node(world: World) -> None:
    world.nodes = []
    for words in (["status"], ["drain"], ["status", "--name", "x"]):
        result = call(*words)
        assert result.exit_code == 3
        assert "of this user runs here" in result.output
