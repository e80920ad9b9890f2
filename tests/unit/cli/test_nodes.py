"""``dispy nodes``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from dispy import config
from dispy.discovery import Sighting
from dispy.errors import InvalidNodes, UsageError
from dispy.model import Role
from dispy.runtime import probe
from dispy.runtime.dialer import LOCAL_TARGET, Target
from dispy.runtime.greeting import make_hello
from dispy.runtime.probe import Probed
from dispy_cli import surroundings
from dispy_cli.nodes import list_targets
from dispy_cli.surroundings import Surroundings

AVAIL = (87.5, 3 << 30, 5 << 30, 100.0)


def answer(name: str = "workhorse", host: str = "10.0.0.1", ident: str = "0" * 32, **fields: Any) -> Probed:
    hello = make_hello(Role.NODE, ident, name=name, cpus=4, **({"avail": AVAIL} | fields))
    return Probed(Target("tcp", host, 51348), hello, host, "")


NO_ANSWER = Probed(Target("tcp", "far.example", 51348), None, "", "nothing listens on \x1bfar.example")


@pytest.fixture(autouse=True)
def _same_ports() -> Iterator[None]:
    before = config.DispyPort
    yield
    config.DispyPort = before


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Give what is probed under "targets"; what is put under "found" is what comes out.

    Under "around" is what the search comes to.
    """
    world: dict[str, Any] = {"found": [], "around": Surroundings()}

    def probe_nodes(targets: Sequence[Any], transport: object) -> list[Probed]:
        world["targets"] = [target[:3] for target in targets]
        world["trusts"] = {target.trust for target in targets}
        return list(world["found"])

    monkeypatch.setattr(probe, "probe_nodes", probe_nodes)
    monkeypatch.setattr(surroundings, "look_around", lambda trust, discoveries: world["around"])
    return world


def test_this_machine_is_asked_if_none_is_named(
    run_dispy: Callable[..., int], asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["found"] = [answer(host="127.0.0.1")]
    assert run_dispy("nodes") == 0
    assert asked["targets"] == [("tcp", "127.0.0.1", 51348)]
    headings, row = capsys.readouterr().out.splitlines()
    assert headings.split("  ")[0] == "NODE"
    for cell in ("workhorse", "127.0.0.1:51348", " 4 ", "88 %", "3.0 GiB", "5.0 GiB"):
        assert cell in row


def test_resources_are_shown_if_there_are_any(
    run_dispy: Callable[..., int], asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["found"] = [answer("one", resources={"port": 3, "gpu": 2}), answer("two")]
    assert run_dispy("nodes", "-n", "one", "-n", "two") == 0
    headings, one, two = capsys.readouterr().out.splitlines()
    assert headings.endswith("  RESOURCES")
    assert one.endswith("  gpu=2, port=3")
    assert two.endswith("  -")


def test_nodes_that_are_found_are_asked(
    run_dispy: Callable[..., int], asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["around"].sighted(Sighting("1" * 32, 1, 51348, ("10.0.0.7", "fd00::7")))
    asked["around"].sighted(Sighting("2" * 32, 1, 4000, ("10.0.0.8",)))
    deaf = Probed(Target("tcp", "10.0.0.8", 4000), None, "", "no answer")
    seven = answer("seven", "10.0.0.7", "1" * 32)
    asked["found"] = [NO_ANSWER, seven, Probed(seven.target, None, "", "no way"), deaf]
    assert run_dispy("nodes", "--json") == 0
    hosts = [("127.0.0.1", 51348), ("10.0.0.7", 51348), ("fd00::7", 51348), ("10.0.0.8", 4000)]
    assert [target[1:] for target in asked["targets"]] == hosts
    told = json.loads(capsys.readouterr().out)
    # Nobody is here, and that is no news; of the first node one address has answered, of the second none.
    assert [(one["node"], one["error"]) for one in told] == [("seven", None), (None, "no answer")]


def test_node_of_this_machine_is_told_once(
    run_dispy: Callable[..., int], asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["around"].sighted(Sighting("0" * 32, 1, 51348, ("10.0.0.1",)))
    asked["found"] = [answer(host="127.0.0.1"), answer()]
    assert run_dispy("nodes", "--json") == 0
    assert [one["address"] for one in json.loads(capsys.readouterr().out)] == ["127.0.0.1"]


def test_nodes_with_another_key_and_the_networks_are_told(
    run_dispy: Callable[..., int], asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["around"].looking(["eth0 (10.0.0.1)"], is_local=False)
    asked["around"].refused("10.0.0.3", "a node there has another key")
    asked["found"] = [NO_ANSWER]
    assert run_dispy("nodes") == 3
    told = capsys.readouterr().err
    assert "dispy: 10.0.0.3: a node there has another key\n" in told
    assert "dispy: nodes were looked for on eth0 (10.0.0.1)\n" in told
    assert run_dispy("nodes", "--json") == 3
    assert json.loads(capsys.readouterr().out)[1]["asked"]["host"] == "10.0.0.3"


def test_why_nobody_was_looked_for(
    run_dispy: Callable[..., int], asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["around"].problem = surroundings.NO_KEY
    asked["found"] = [answer(host="127.0.0.1")]
    assert run_dispy("nodes") == 0
    assert f"were not looked for: {surroundings.NO_KEY}" in capsys.readouterr().err


def test_nodes_and_ports_can_be_named(run_dispy: Callable[..., int], asked: dict[str, Any]) -> None:
    asked["found"] = [answer()]
    assert (
        run_dispy("nodes", "-p", "9000", "-n", "one.example", "-n", "10.0.0.2:77", "-n", "one.example") == 0
    )
    assert asked["targets"] == [("tcp", "one.example", 9001), ("tcp", "10.0.0.2", 77)]


def test_those_that_do_not_answer_are_told_apart(
    run_dispy: Callable[..., int], asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["found"] = [NO_ANSWER, answer(name="ev\x1bil", avail=None)]
    assert run_dispy("nodes", "-n", "far.example") == 0
    told = capsys.readouterr()
    assert "far.example" not in told.out
    assert "ev?il" in told.out
    assert told.err == "dispy: no node at far.example:51348: nothing listens on ?far.example\n"


def test_no_node_at_all_is_status_3(
    run_dispy: Callable[..., int], asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["found"] = [NO_ANSWER]
    assert run_dispy("nodes") == 3
    assert capsys.readouterr().out == ""
    assert run_dispy("nodes", "--json") == 3
    (told,) = json.loads(capsys.readouterr().out)
    assert told["error"] == NO_ANSWER.reason
    assert told["asked"] == {"scheme": "tcp", "host": "far.example", "port": 51348}
    assert {value for key, value in told.items() if key not in ("error", "asked")} == {None}


def test_json_has_it_all(
    run_dispy: Callable[..., int], asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["found"] = [answer()]
    assert run_dispy("nodes", "--json") == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["error"] is None
    assert (told["node"], told["address"], told["slots"], told["id"]) == (
        "workhorse",
        "10.0.0.1",
        4,
        "0" * 32,
    )
    assert (told["cpu_free_percent"], told["memory_free_bytes"]) == (87.5, 3 << 30)
    assert (told["disk_free_bytes"], told["swap_free_percent"]) == (5 << 30, 100.0)
    assert told["python"]
    assert told["dispy"]
    assert told["platform"]


@pytest.mark.parametrize(
    ("target", "host", "shown"),
    [
        (Target("tcp", "::1", 51348), "::1", "[::1]:51348"),
        (Target("unix", "/run/node", 0), "/run/node", "unix:/run/node"),
        (LOCAL_TARGET, "", "local"),
    ],
)
def test_addresses_are_shown_as_users_write_them(
    run_dispy: Callable[..., int],
    asked: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    target: Target,
    host: str,
    shown: str,
) -> None:
    asked["found"] = [Probed(target, answer().hello, host, "")]
    assert run_dispy("nodes") == 0
    assert f" {shown} " in capsys.readouterr().out


def test_pattern_cannot_be_asked() -> None:
    with pytest.raises(UsageError, match=r"'10\.0\.\*' is a pattern"):
        list_targets(["10.0.*"], None)


def test_what_is_no_node_is_a_usage_error(run_dispy: Callable[..., int], asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidNodes):
        list_targets(["not a host"], None)
    assert run_dispy("nodes", "-n", "not a host") == 2
    assert "targets" not in asked


def test_local_node_is_a_target_of_its_own() -> None:
    assert list_targets(["local"], None) == [LOCAL_TARGET]


def test_why_a_node_takes_no_jobs(
    run_dispy: Callable[..., int], asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["found"] = [answer(refusal="its service hours are 20:00 to 06:00")]
    assert run_dispy("nodes") == 0
    told = capsys.readouterr()
    assert "  closed  " in told.out
    assert "node workhorse takes no jobs: its service hours are 20:00 to 06:00" in told.err
    assert run_dispy("nodes", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["refusal"] == "its service hours are 20:00 to 06:00"
