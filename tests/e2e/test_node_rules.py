"""What the owner of a node has said, and says while it runs, with real nodes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dispy


def square(number: int) -> int:
    return number * number


def prepare() -> int:
    return 0


def end_node() -> None:
    dispynode_shutdown()  # type: ignore[name-defined]  # noqa: F821


def ask(folder: Path, *words: str) -> Any:
    """Run a command for the node of a folder; give its JSON."""
    command = [sys.executable, "-m", "dispy_node", *words, "--json", "--dest-path-prefix", str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_owner_asks_and_commands_a_node(start_node: Callable[..., Any], tmp_path: Path) -> None:
    node = start_node("--serve", "5", folder=tmp_path / "node")
    with dispy.JobCluster(square, nodes=[node.address]) as cluster:
        assert cluster.submit(5)() == 25
        (told,) = ask(tmp_path / "node", "status")
        assert (told["process"], told["slots"], told["serve_left"]) == (node.process.pid, 2, 5)
        assert told["computations"][0]["name"] == "square"
        assert ask(tmp_path / "node", "cpus", "0")["slots"] == 0
        job = cluster.submit(6)
        assert not job.wait(0.3)
        assert ask(tmp_path / "node", "cpus", "1")["slots"] == 1
        assert job() == 36
    assert ask(tmp_path / "node", "stop")["state"] == "ending"
    assert node.process.wait(15) == 0


def test_node_ends_when_cleanup_wants_it(start_node: Callable[..., Any]) -> None:
    node = start_node("--client-shutdown")
    with dispy.JobCluster(square, nodes=[node.address], setup=prepare, cleanup=end_node) as cluster:
        assert cluster.submit(5)() == 25
    assert node.process.wait(30) == 0


def test_node_outside_its_service_hours(start_node: Callable[..., Any]) -> None:
    """Two hours from now they begin, for one hour."""
    begins = time.localtime(time.time() + 7200).tm_hour
    hours = ("--service-start", f"{begins:02}:00", "--service-stop", f"{(begins + 1) % 24:02}:00")
    node = start_node(*hours)
    with dispy.JobCluster(square, nodes=[node.address, "local"]) as cluster:
        jobs = [cluster.submit(number) for number in range(4)]
        assert [job() for job in jobs] == [0, 1, 4, 9]
        assert "it takes no jobs: its service hours are" in cluster.explain()
    node.end()
    assert "outside service hours: no jobs are taken" in node.log
