from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispy_node.runner import frames, main
from dispy_node.runner.main import DaemonGone, Runner, _read_until_loaded
from dispy_node.runner.namespace import Computation
from dispy_node.runner.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings({"folder": str(tmp_path), "spool": str(tmp_path), "node": "there", "inline_bytes": 1000})


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, int]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs.fileno()


def configure(tmp_path: Path) -> bytes:
    return frames.frame(
        frames.CONFIGURE, json.dumps({"folder": str(tmp_path), "spool": str(tmp_path)}).encode()
    )


def test_what_comes_behind_the_code_is_kept(ends: tuple[socket.socket, int], tmp_path: Path) -> None:
    ours, theirs = ends
    slots = frames.frame(frames.SLOTS, frames.COUNT.pack(2))
    ours.sendall(configure(tmp_path) + frames.frame(frames.LOAD, b"\0Scode") + slots)
    read = _read_until_loaded(theirs, frames.FrameReader())
    assert read is not None
    assert read[1:] == (b"", b"Scode", [(frames.SLOTS, frames.COUNT.pack(2))])


def test_code_in_a_file(ends: tuple[socket.socket, int], tmp_path: Path) -> None:
    ours, theirs = ends
    (tmp_path / "code").write_bytes(b"Pcode")
    ours.sendall(configure(tmp_path) + frames.frame(frames.LOAD, b"\1" + os.fsencode(tmp_path / "code")))
    read = _read_until_loaded(theirs, frames.FrameReader())
    assert read is not None
    assert read[2] == b"Pcode"


@pytest.mark.parametrize("is_path", [False, True])
def test_arguments_of_setup_come_before_the_code(
    ends: tuple[socket.socket, int], tmp_path: Path, is_path: bool
) -> None:
    ours, theirs = ends
    (tmp_path / "args").write_bytes(b"args")
    payload = b"\1" + os.fsencode(tmp_path / "args") if is_path else b"\0args"
    ours.sendall(
        configure(tmp_path) + frames.frame(frames.SETUP, payload) + frames.frame(frames.LOAD, b"\0Scode")
    )
    read = _read_until_loaded(theirs, frames.FrameReader())
    assert read is not None
    assert read[1:] == (b"args", b"Scode", [])


def test_daemon_that_goes_before_it_has_said_all(ends: tuple[socket.socket, int], tmp_path: Path) -> None:
    ours, theirs = ends
    ours.sendall(configure(tmp_path)[:-3])
    ours.close()
    assert _read_until_loaded(theirs, frames.FrameReader()) is None


def test_frames_in_the_wrong_order(ends: tuple[socket.socket, int]) -> None:
    ours, theirs = ends
    ours.sendall(frames.frame(frames.RUN))
    with pytest.raises(ValueError, match="frame of kind 3 before"):
        _read_until_loaded(theirs, frames.FrameReader())


@pytest.fixture
def runner(
    ends: tuple[socket.socket, int], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Runner]:
    monkeypatch.setattr(main, "freeze", lambda: None)
    monkeypatch.setattr("dispy_node.runner.bare.Libc.become_subreaper", lambda self: False)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
    handlers = [signal.getsignal(number) for number in numbers]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    made = Runner(ends[1], frames.FrameReader(), settings, Computation(print, {}), foreign=False)
    yield made
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def received(ours: socket.socket) -> list[tuple[int, bytes]]:
    ours.setblocking(False)
    try:
        return frames.FrameReader().feed(ours.recv(1 << 16))
    except BlockingIOError:
        return []


def feed(runner: Runner, kind: int, payload: bytes = b"") -> None:
    runner._handle_frames([(kind, payload)])
    runner._confirm_slots()
    runner._flush()


def test_jobs_wait_for_slots_and_can_be_cancelled(ends: tuple[socket.socket, int], runner: Runner) -> None:
    feed(runner, frames.RUN, frames.pack_jobs([(1, 1, False, b"x"), (2, 1, False, b"yy")]))
    assert [job.record[-2:] for job in runner._pool.queue] == [b"\0x", b"yy"]
    assert received(ends[0]) == []
    feed(runner, frames.CANCEL, frames.pack_keys([(2, 1), (3, 1)]))
    ((kind, payload),) = received(ends[0])
    assert kind == frames.ENDED
    assert [result[:3] for result in frames.unpack_results(payload)] == [(2, 1, 5)]


def test_only_what_has_not_started_is_recalled(ends: tuple[socket.socket, int], runner: Runner) -> None:
    feed(runner, frames.RUN, frames.pack_jobs([(1, 1, False, b"x"), (2, 1, False, b"yy")]))
    started = runner._jobs[frames.KEY.pack(1, 1)]
    started.child = object()  # type: ignore[assignment]
    feed(runner, frames.RECALL, frames.pack_keys([(1, 1), (2, 1), (3, 1)]))
    ((kind, payload),) = received(ends[0])
    assert kind == frames.ENDED
    assert [result[:3] for result in frames.unpack_results(payload)] == [(2, 1, 5)]
    started.child = None


def test_queued_jobs_are_given_back(ends: tuple[socket.socket, int], runner: Runner) -> None:
    feed(runner, frames.RUN, frames.pack_jobs([(1, 1, False, b"x"), (2, 1, False, b"yy")]))
    feed(runner, frames.RECALL, frames.pack_keys([(2, 1), (3, 1)]))
    feed(runner, frames.RECALL, frames.pack_keys([(2, 1)]))
    ((kind, payload),) = received(ends[0])
    assert kind == frames.ENDED
    assert [result[:6] for result in frames.unpack_results(payload)] == [(2, 1, 5, 0, 0.0, 0.0)]


@pytest.mark.parametrize(("before", "after", "told"), [(2, 3, None), (2, 1, 1), (2, 0, 0), (0, 2, None)])
def test_fewer_slots_are_confirmed(
    ends: tuple[socket.socket, int], runner: Runner, before: int, after: int, told: int | None
) -> None:
    feed(runner, frames.SLOTS, frames.COUNT.pack(before))
    feed(runner, frames.SLOTS, frames.COUNT.pack(after))
    expected = [] if told is None else [(frames.SLOTS, frames.COUNT.pack(told))]
    assert received(ends[0]) == expected


def test_close_ends_what_is_queued(ends: tuple[socket.socket, int], runner: Runner) -> None:
    feed(runner, frames.RUN, frames.pack_jobs([(1, 1, False, b"x")]))
    assert not runner._finished()
    feed(runner, frames.CLOSE, b"\0")
    assert [kind for kind, _ in received(ends[0])] == [frames.ENDED]
    assert runner._finished()


def test_unknown_frame_is_logged(ends: tuple[socket.socket, int], runner: Runner) -> None:
    feed(runner, 77)
    ((kind, text),) = received(ends[0])
    assert kind == frames.LOG
    assert b"kind 77" in text


def test_only_jobs_that_have_not_ended_are_announced(ends: tuple[socket.socket, int], runner: Runner) -> None:
    runner._handle_frames([(frames.RUN, frames.pack_jobs([(1, 1, False, b"x"), (2, 1, False, b"x")]))])
    first, second = runner._pool.queue
    runner.started(first, 1.0)
    runner.started(second, 2.0)
    runner.ended(first, b"")
    runner._flush()
    (started, _) = received(ends[0])
    assert started == (frames.STARTED, frames.pack_starts([(2, 1, 2.0)]))


def test_daemon_that_does_not_read_stops_nobody(ends: tuple[socket.socket, int], runner: Runner) -> None:
    ours, _ = ends
    for _ in range(100):
        runner.log("x" * 60_000)
        runner._flush()
    assert runner._unsent
    reader, count = frames.FrameReader(), 0
    while count < 100:
        count += len(reader.feed(ours.recv(1 << 20)))
        runner._send(b"")
    assert not runner._unsent


def test_what_waits_for_the_daemon_is_copied_once(ends: tuple[socket.socket, int], runner: Runner) -> None:
    """Else many large results would take a time that grows with the square of their number."""
    pieces = [bytes([number]) * 50_000 for number in range(200)]
    for piece in pieces:
        runner._send(piece)
    waiting = list(runner._unsent)
    assert [view.obj for view in waiting] == pieces[-len(waiting) :]
    assert all(view.obj is piece for view, piece in zip(waiting, pieces[-len(waiting) :], strict=True))
    got = b""
    while len(got) < 200 * 50_000:
        got += ends[0].recv(1 << 20)
        runner._send(b"")
    assert got == b"".join(pieces)
    assert not runner._unsent


def test_daemon_that_is_gone(ends: tuple[socket.socket, int], runner: Runner) -> None:
    ends[0].close()
    with pytest.raises(DaemonGone):
        runner._read()
    with pytest.raises(DaemonGone):
        runner.log("x")
        runner._flush()


def test_programs_that_the_computation_starts_do_not_get_the_control_socket(
    ends: tuple[socket.socket, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    inherited: list[bool] = []

    def read(control: int, reader: frames.FrameReader) -> None:
        inherited.append(os.get_inheritable(control))

    def leave(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(main, "_read_until_loaded", read)
    monkeypatch.setattr(os, "_exit", leave)
    os.set_inheritable(ends[1], True)  # as the daemon passes it
    with pytest.raises(SystemExit):
        main.main(ends[1])
    assert inherited == [False]
