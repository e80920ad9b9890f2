"""The child process of a client: how it is started and ended. tests/e2e has it run jobs."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dispy.errors import PluginNotInstalled
from dispy.interfaces import Peer
from dispy.runtime import embedded
from dispy.runtime.embedded import END_S, EmbeddedNode


class FakeProcess:
    """A process that ends by itself at a moment of virtual time, or when it is killed."""

    def __init__(self, ends_at: float = float("inf")) -> None:
        self.ends_at = ends_at
        self.killed = False
        self.waited = False

    def poll(self) -> int | None:
        return 0 if self.killed or trio.current_time() >= self.ends_at else None

    def kill(self) -> None:
        self.killed = True

    def wait(self) -> int:
        self.waited = True
        return -9


def waited(process: FakeProcess, *, cancelled: bool = False) -> float:
    """Wait for the end of a process; return how long that took."""

    async def main() -> float:
        stream: Any = None
        fake: Any = process
        process.ends_at += trio.current_time()
        began = trio.current_time()
        with trio.CancelScope() as scope:
            if cancelled:
                scope.cancel()
            await EmbeddedNode(fake, stream).wait_ended()
        return trio.current_time() - began

    return trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


def test_node_that_ends_is_not_killed() -> None:
    process = FakeProcess(ends_at=1.0)
    assert waited(process) == pytest.approx(1.0, abs=0.05)
    assert not process.killed


@pytest.mark.parametrize("cancelled", [False, True])
def test_node_that_stays_is_killed_also_when_cancelled(cancelled: bool) -> None:
    process = FakeProcess()
    assert waited(process, cancelled=cancelled) == pytest.approx(END_S, abs=0.05)
    assert process.killed
    assert process.waited


def test_without_the_node_package_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    assert not embedded.is_available()
    with pytest.raises(PluginNotInstalled, match=r"pip install 'dispy-core\[local\]'"):
        EmbeddedNode.start()


def test_child_gets_the_other_end_of_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[list[str], dict[str, Any]]] = []

    def popen(command: list[str], **options: Any) -> FakeProcess:
        started.append((command, options))
        return FakeProcess()

    monkeypatch.setattr(subprocess, "Popen", popen)

    async def main() -> None:
        node = EmbeddedNode.start()
        assert node.peer == Peer("127.0.0.1", is_local=True)
        with trio.fail_after(10):
            assert (
                await node.stream.receive_some(1) == b""
            )  # the parent has closed its copy of the child's end
        await node.stream.aclose()

    trio.run(main, strict_exception_groups=True)
    ((command, options),) = started
    assert command[1:3] == ["-m", "dispy_node.embedded"]
    assert options["pass_fds"] == [int(command[3])]
    assert options["start_new_session"]


def test_process_that_cannot_be_started_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """An open socket would be a ResourceWarning, and that an error here."""

    def popen(command: list[str], **options: Any) -> FakeProcess:
        raise OSError(11, "too many processes")

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(OSError, match="too many processes"):
        EmbeddedNode.start()


def test_node_does_not_inherit_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    class Started(Exception):
        pass

    def start(command: list[str], *, env: dict[str, str], **options: object) -> None:
        assert "DISPY_SECRET" not in env
        assert (env["OTHER"], env["PYTHONUNBUFFERED"]) == ("value", "1")
        raise Started

    monkeypatch.setenv("DISPY_SECRET", "hush")
    monkeypatch.setenv("OTHER", "value")
    monkeypatch.setattr(embedded.subprocess, "Popen", start)
    monkeypatch.setattr(embedded, "is_available", lambda: True)
    with pytest.raises(Started):
        EmbeddedNode.start()
