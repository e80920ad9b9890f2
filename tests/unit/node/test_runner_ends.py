"""Runners that do not end, leave something behind, or tell too much."""

from __future__ import annotations

import math
import os
import struct
import sys
import time
from pathlib import Path

import pytest
import trio

from dispy.interfaces import ExecutorPlan
from dispy.model import ComputationId, Outcome
from dispy_node import runners
from dispy_node.engine import events as ev
from dispy_node.runner import frames
from dispy_node.runners import RunnerProcess

COMPUTATION = ComputationId("c" * 32)

PRELUDE = """
import os, socket, struct, subprocess, sys, time
sock = socket.socket(fileno=int(os.environ["DISPY_RUNNER_FD"]))
def tell(kind, data=b""):
    sock.sendall(struct.pack("<BI", kind, len(data)) + data)
READY, FAILED, ENDED, LOG = 7, 8, 10, 11
"""

HOLDER = """
os.set_inheritable(sock.fileno(), {passed})
child = subprocess.Popen(
    [sys.executable, "-S", "-c", "import time; time.sleep(600)"], close_fds=False, start_new_session=True
)
with open("child", "w") as file: file.write(str(child.pid))
"""


def play(tmp_path: Path, program: str, *, terminate: bool | None = None) -> list[ev.Event]:
    """Run a program as a runner; close it when it is ready, or before if it never is."""
    events: list[ev.Event] = []
    runner = RunnerProcess(COMPUTATION, tmp_path, events.append)
    if terminate is not None:
        runner.close(terminate=terminate)
    runner.start(ExecutorPlan(command=[sys.executable, "-S", "-c", PRELUDE + program]), tmp_path)
    runner.configure({}, b"code")

    async def main() -> None:
        with trio.fail_after(30):
            await runner.serve()

    trio.run(main, strict_exception_groups=True)
    return events


def has_ended(pid: int) -> bool:
    """Wait for the end of a process that was killed, which the system takes a moment for."""
    ends_at = time.monotonic() + 10
    while time.monotonic() < ends_at:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("terminate", [False, True])
def test_runner_that_hangs_while_it_loads_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminate: bool
) -> None:
    monkeypatch.setattr(runners, "LOADING_S", 0.1)
    events = play(tmp_path, "time.sleep(600)", terminate=terminate)
    assert events == [ev.RunnerEnded(COMPUTATION)]


def test_runner_that_does_not_terminate_its_jobs_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "TERMINATE_S", 0.1)
    events = play(tmp_path, "tell(READY); time.sleep(600)", terminate=True)
    assert events == [ev.RunnerReady(COMPUTATION), ev.RunnerEnded(COMPUTATION)]


def test_runner_whose_jobs_may_finish_is_not_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "TERMINATE_S", 0.0)
    play(tmp_path, "tell(READY); time.sleep(0.3); open('done', 'w').close()", terminate=False)
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("pidfd", [True, False])
def test_end_is_seen_while_something_else_holds_the_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pidfd: bool
) -> None:
    def missing(pid: int) -> int:
        raise OSError

    if not pidfd:
        monkeypatch.setattr(os, "pidfd_open", missing)
    events = play(tmp_path, HOLDER.format(passed=True) + "tell(FAILED, b'no module x'); os._exit(1)")
    assert events == [ev.RunnerFailed(COMPUTATION, "no module x")]
    assert has_ended(int((tmp_path / "child").read_text()))


def test_what_a_runner_leaves_that_ends_well_is_killed(tmp_path: Path) -> None:
    play(tmp_path, HOLDER.format(passed=False) + "tell(READY); os._exit(0)", terminate=False)
    assert has_ended(int((tmp_path / "child").read_text()))


def result(outcome: int = Outcome.RETURNED, start: float = 1.0, end: float = 2.0, detail: str = "") -> bytes:
    return frames.pack_result((7, 1, outcome, 0, start, end, detail, False, b"body"))


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<BI", frames.ENDED, runners.MAX_FRAME_BYTES + 1),
        frames.frame(frames.ENDED, result(outcome=200)),
        frames.frame(frames.ENDED, result(start=math.nan)),
        frames.frame(frames.ENDED, result(end=math.inf)),
        frames.frame(frames.ENDED, result()[:-1]),
        frames.frame(frames.STARTED, frames.pack_starts([(7, 1, -math.inf)])),
        frames.frame(99),
    ],
    ids=["long", "outcome", "start", "end", "cut off", "started", "kind"],
)
def test_what_no_runner_sends_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(runners, "END_S", 0.0)
    events = play(tmp_path, f"tell(READY); sock.sendall({data!r}); time.sleep(600)")
    # What came in one piece with a frame that is too long is not looked at, not even that it is ready.
    assert isinstance(events[-1], ev.RunnerEnded | ev.RunnerFailed)
    assert "sent what no runner sends" in events[-1].reason
    assert not any(isinstance(event, ev.AttemptsEnded | ev.AttemptsStarted) for event in events)


def test_long_explanations_are_cut(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(
        frames.frame(frames.ENDED, result(Outcome.DIED, detail="\u00e9" * 100_000))
    )
    program = "tell(READY); sock.sendall(open('data', 'rb').read()); tell(FAILED, b'x' * 100_000)"
    _ready, ended, failed = play(tmp_path, program)
    assert isinstance(ended, ev.AttemptsEnded)
    assert ended.results[0].result.detail == "\u00e9" * (runners.DETAIL_BYTES // 2)
    assert failed == ev.RunnerFailed(COMPUTATION, "x" * runners.DETAIL_BYTES)


def test_log_lines_are_logged_but_not_too_many(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    play(tmp_path, "tell(LOG, b'one\\ntwo' + b'x' * 5000)\nfor n in range(50): tell(LOG, b'more')")
    lines = [record.getMessage() for record in caplog.records]
    head = f"the runner of {COMPUTATION}: "
    assert lines[0] == f"{head}one two{'x' * (runners.LOG_CHARS - 7)}"
    assert lines[1:] == [f"{head}more"] * (runners.LOG_LINES - 1)
