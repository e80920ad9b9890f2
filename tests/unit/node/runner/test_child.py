"""A child as itself sees it, here in the process of the tests or in one of its own; see also test_offspring.py."""

from __future__ import annotations

import gc
import io
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dispy_node.runner import logs
from dispy_node.runner.bare import Libc, channel
from dispy_node.runner.body import BROKEN, RETURNED, split_body
from dispy_node.runner.child import CELLS_BYTES, CLOCK_AT, NUMBERS, WITHDRAWN_AT, ChannelClosed, Child
from dispy_node.runner.frames import pack_jobs, unpack_results
from dispy_node.runner.inside import Inside
from dispy_node.runner.namespace import Computation
from dispy_node.runner.replies import cut_replies


@pytest.fixture(autouse=True)
def _unchanged_process() -> Iterator[None]:
    """Undo what a child does to its process: it collects garbage, and gives signals their default for programs."""
    numbers = (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGURG)
    handlers, enabled = [signal.getsignal(number) for number in numbers], gc.isenabled()
    yield
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)
    (gc.enable if enabled else gc.disable)()


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """Give the ends of a channel: the runner's and the child's."""
    ours, theirs = channel()
    yield ours, theirs
    os.close(theirs)
    os.close(ours)


@pytest.fixture
def make_child(make_settings) -> Callable[..., Child]:
    def make(compute: Callable[..., Any] | None, **given: object) -> Child:
        computation = None if compute is None else Computation(compute, {})
        return Child(make_settings(**given), computation, Libc(), -1)

    return make


def answer(ours: int) -> tuple[int, Any]:
    ((flags, record),), rest, garbage = cut_replies(os.read(ours, 1 << 16), 1 << 16)
    assert rest == b""
    assert not garbage
    (result,) = unpack_results(record)
    return flags, result


def job(*args: object) -> bytes:
    return pack_jobs([(7, 2, False, pickle.dumps((args, {}), 5))])


def test_a_job_is_answered(make_child, ends: tuple[int, int]) -> None:
    ours, theirs = ends
    os.write(ours, job(20, 22))
    make_child(lambda one, two: one + two).serve_one(theirs)
    flags, result = answer(ours)
    assert (flags, *result[:3]) == (0, 7, 2, RETURNED)
    assert pickle.loads(split_body(result[8])[0]) == 42


def test_a_large_record_comes_in_pieces(make_child, ends: tuple[int, int]) -> None:
    ours, theirs = ends
    os.write(ours, job(b"x" * 60_000))
    make_child(len).serve_one(theirs)
    assert pickle.loads(split_body(answer(ours)[1][8])[0]) == 60_000


def test_output_is_flushed_before_the_answer(
    make_child, ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(raw, 1 << 16)))
    os.write(ends[0], job())
    make_child(lambda: print("words")).serve_one(ends[1])
    assert raw.getvalue() == b"words\n"


def test_streams_that_the_job_has_broken_do_no_harm(
    make_child, ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())

    def breaks() -> str:
        sys.stdout.close()
        sys.stderr = None
        return "well"

    os.write(ends[0], job())
    make_child(breaks).serve_one(ends[1])
    assert pickle.loads(split_body(answer(ends[0])[1][8])[0]) == "well"


def test_the_end_of_the_channel_is_the_end(make_child) -> None:
    for said in (b"", job()[:5]):
        ours, theirs = channel()
        os.write(ours, said)
        os.close(ours)
        with pytest.raises(ChannelClosed):
            make_child(len).serve_one(theirs)
        os.close(theirs)


def test_a_program_that_cannot_be_executed_is_told(make_child, ends: tuple[int, int]) -> None:
    ours, theirs = ends
    os.write(ours, pack_jobs([(7, 2, False, b"\0\0\0\0")]))
    make_child(None, program=["/nowhere/found"]).serve_one(theirs)
    _, result = answer(ours)
    assert result[2] == BROKEN
    assert "program '/nowhere/found' is not on node there" in result[6]


def test_a_program_whose_arguments_are_gone_is_told(make_child, ends: tuple[int, int]) -> None:
    ours, theirs = ends
    os.write(ours, pack_jobs([(7, 2, True, b"/nowhere/found")]))
    make_child(None, program=["/bin/true"]).serve_one(theirs)
    _, result = answer(ours)
    assert result[2] == BROKEN
    assert "the program's arguments cannot be read" in result[6]


def test_cells_do_not_overlap() -> None:
    assert CLOCK_AT % 8 == 0, "the clock is written as one number"
    assert 0 < CLOCK_AT < CLOCK_AT + 8 <= WITHDRAWN_AT
    assert CELLS_BYTES == WITHDRAWN_AT + NUMBERS
    assert NUMBERS < 255, "255 says that nothing was started"


WORKER = """
import mmap, pickle
from dispy_node.runner.bare import Libc, channel
from dispy_node.runner.child import *
from dispy_node.runner.child import CELLS_BYTES, STARTED_AT, WITHDRAWN_AT, NOTHING_STARTED
from dispy_node.runner.frames import KEY, pack_jobs
from dispy_node.runner.namespace import Computation
from dispy_node.runner.replies import cut_replies
from dispy_node.runner.settings import Settings

def make_job(number, *args):
    return pack_jobs([(number, 1, False, pickle.dumps((args, {}), 5))])

def serve(compute, records, withdrawn=()):
    settings = Settings({"folder": ".", "spool": ".", "isolation": "worker"})
    ours, theirs = channel()
    cells = mmap.mmap(-1, CELLS_BYTES)
    cells[STARTED_AT] = NOTHING_STARTED
    for number in withdrawn:
        cells[WITHDRAWN_AT + number] = 1
    os.write(ours, b"".join(records))
    import socket
    socket.socket(fileno=os.dup(ours)).shutdown(socket.SHUT_WR)
    try:
        Worker(settings, Computation(compute, {}), Libc(), -1).serve(theirs, cells)
    except ChannelClosed:
        replies, rest, garbage = cut_replies(os.read(ours, 1 << 16), 1 << 16)
    assert not rest and not garbage
    return [[flags, KEY.unpack_from(record)[0]] for flags, record in replies], cells[STARTED_AT]
"""


def test_a_worker_runs_many_jobs_but_no_withdrawn_ones(run_script) -> None:
    told = run_script(
        WORKER
        + """
ran = []
replies, last = serve(ran.append, [make_job(number, number) for number in range(5)], withdrawn=[1, 3])
told = [ran, replies, last]
"""
    )
    assert told == [[0, 2, 4], [[0, 0], [2, 1], [0, 2], [2, 3], [0, 4]], 4]


def test_a_worker_that_printed_waits_until_that_is_read(run_script) -> None:
    told = run_script(
        WORKER
        + """
from dispy_node.runner.replies import GO_ON_RECORD
ends = os.pipe()
os.dup2(ends[1], 1)
def compute(text):
    if text:
        os.write(1, text)
    else:
        os.read(ends[0], 100)  # the part of the runner
jobs = [make_job(0, b""), make_job(1, b"words"), make_job(2, b"")]
os.write(1, b"to read")
told = serve(compute, [*jobs, GO_ON_RECORD])[0]
"""
    )
    assert told == [[0, 0], [1, 1], [0, 2]]


def test_streams_write_what_the_client_reads(run_script) -> None:
    told = run_script(
        """
        import sys
        from dispy_node.runner.child import open_streams
        pipes = os.pipe(), os.pipe()
        kept = os.dup(2)
        os.dup2(pipes[0][1], 1)
        os.dup2(pipes[1][1], 2)
        stdout, stderr = open_streams()
        print("\\u00fc\\udcff")
        print("\\u00fc\\udcff", file=sys.stderr)
        same = sys.stdout is stdout and sys.__stderr__ is stderr
        stdout.flush()
        told = [same, *(os.read(ours, 100).hex() for ours, _ in pipes)]
        os.dup2(kept, 2)
        """
    )
    assert told == [True, "ü".encode().hex() + "ff0a", "ü\\udcff\n".encode().hex()]


def test_who_is_looked_at_writes_each_line(make_child, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    child = make_child(lambda: None)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8"))  # type: ignore[type-var]
    print("before")
    assert raw.getvalue() == b""
    child.show(0, None)
    assert raw.getvalue() == b"before\n"
    print("line")
    assert raw.getvalue() == b"before\nline\n"
    for own in (None, "text", io.StringIO()):  # what jobs put there is left alone
        monkeypatch.setattr(sys, "stdout", own)
        child.show(0, None)


def test_a_write_that_is_interrupted_is_followed_up_by_a_thread(
    make_child, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    done = threading.Event()

    class Busy(io.StringIO):
        def reconfigure(self, **options: Any) -> None:
            threads.append(threading.get_ident())
            if len(threads) == 1:
                raise RuntimeError("reentrant call")
            done.set()

    child = make_child(lambda: None)
    monkeypatch.setattr(sys, "stdout", Busy())
    child.show(0, None)
    assert done.wait(20)
    assert threads[0] == threading.get_ident() != threads[1]


def test_what_jobs_say_goes_through_the_child_that_is_connected(
    make_child, make_settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: list[int] = []
    monkeypatch.setattr(logs, "forward", lambda level, tell: levels.append(level))
    inside = Inside(make_settings())
    child = make_child(len, log_level=20)
    child.connect(Computation(len, {}, inside=inside))
    assert inside.speaker is child.news
    assert signal.getsignal(signal.SIGURG) == child.show
    make_child(len).connect(Computation(len, {}))
    assert levels == [20], "records are told only where the client wants them"
