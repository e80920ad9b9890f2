"""The runner's loop: frames from the daemon in, frames to it out, and everything that happens in between."""

from __future__ import annotations

import os
import sys
from collections import deque
from itertools import islice
from time import monotonic

from dispy_node.runner import explain
from dispy_node.runner.bare import READABLE, WRITABLE, Libc, open_poll
from dispy_node.runner.child import open_streams
from dispy_node.runner.desk import Desk
from dispy_node.runner.frames import (
    CANCEL,
    CLOSE,
    CONFIGURE,
    COUNT,
    ENDED,
    FAILED,
    GRANT,
    JOB,
    KEY,
    LIMITS,
    LOAD,
    LOG,
    NEWS,
    OUTPUT,
    READY,
    RECALL,
    RUN,
    SAID,
    SETUP,
    SLOTS,
    STARTED,
    TAKEN,
    WATCH,
    FrameReader,
    frame,
    pack_starts,
    unpack_jobs,
    unpack_keys,
    unpack_limits,
)
from dispy_node.runner.inside import Inside
from dispy_node.runner.jobs import Job
from dispy_node.runner.namespace import BadBundle, load
from dispy_node.runner.offspring import Nursery, freeze
from dispy_node.runner.pool import Pool
from dispy_node.runner.replies import KEY_BYTES
from dispy_node.runner.settings import Settings, read_settings
from dispy_node.runner.tree import Strangers
from dispy_node.runner.workers import WorkerPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never

    from dispy_node.runner.bracket import Bracket
    from dispy_node.runner.frames import Start
    from dispy_node.runner.namespace import Computation
    from dispy_node.runner.spawning import Spawning

READ_BYTES = 64 * 1024
WRITE_PIECES = 64
"""So many are written at once; systems take 1024, but the socket holds 1 MiB."""
SUBREAPER_VARIABLE = "DISPY_RUNNER_SUBREAPER"
"""Environment variable: "1" if the daemon has made this process a subreaper before it was executed, which outlives
that. Then the runner need not load what calls C functions, and each job is 40 microseconds cheaper."""
LAST_WAIT_S = 2.0
"""So long the runner waits at its end for what it has killed."""


class DaemonGone(Exception):
    """The daemon's end of the control socket is closed."""


class Runner:
    """Everything of a runner whose computation is loaded.

    Args:
        control: the control socket.
        reader: cuts what comes from it.
        settings: what the daemon said.
        computation: what jobs call; None if they are runs of a program.
        foreign: whether loading it has imported modules.
        desk: where programs speak; None if jobs are function calls.
        spawning: what children are given that are not forked; None if they are.
    """

    def __init__(
        self,
        control: int,
        reader: FrameReader,
        settings: Settings,
        computation: Computation | None,
        foreign: bool,
        desk: Desk | None = None,
        spawning: Spawning | None = None,
    ) -> None:
        self._control = control
        self._reader = reader
        self._settings = settings
        self._jobs: dict[bytes, Job] = {}
        self._limits: dict[bytes, tuple[float, float, int, int]] = {}
        """Of jobs that are about to come."""
        self._granted: dict[bytes, bytes] = {}
        """What such jobs are equipped with."""
        self._results: list[bytes] = []
        self._starts: list[Start] = []
        self._out: list[bytes] = []
        self._unsent: deque[memoryview] = deque()
        self._closing = False
        self._owed: int | None = None
        self._poll = open_poll()
        os.set_blocking(control, False)
        strangers, libc = Strangers(), Libc()
        if os.environ.pop(SUBREAPER_VARIABLE, "") != "1":
            libc.become_subreaper()
        own = [control, self._poll.fileno(), strangers.fileno()]
        if desk is not None:
            own.append(desk.fileno())
        if spawning is None:
            nursery = Nursery(settings, computation, libc, self._poll, own, foreign)
            nursery.rehearse()
            freeze()
            kind = WorkerPool if settings.reuse and computation is not None else Pool
        else:
            nursery, kind = spawning.make_nursery(computation, libc, self._poll)
            for remark in spawning.remarks():
                self.log(remark)
        self._pool: Pool = kind(settings, nursery, self._poll, strangers, self)
        self._poll.register(control, READABLE)
        self._desk = desk
        if desk is not None:
            desk.open(self._poll, self._find_running, self._pool.tell)

    # ---- what the pool tells

    def ended(self, job: Job, record: bytes) -> None:
        """Take the result of a job."""
        self._jobs.pop(job.key, None)
        if job.equipment:
            self._pool.apart -= 1
        self._results.append(record)
        if self._desk is not None:
            self._desk.forget(job)

    def started(self, job: Job, at: float) -> None:
        """Take note that a job runs."""
        number, attempt = unpack_keys(job.key)[0]
        self._starts.append((number, attempt, at))

    def log(self, text: str) -> None:
        """Take a line for the operator."""
        self._out.append(frame(LOG, text.encode("utf-8", "replace")))

    def news(self, record: bytes) -> None:
        """Take what a job tells while it runs; it goes out behind the start of the job, and before its result."""
        self._tell_starts()
        self._out.append(frame(NEWS, record))

    def said(self, record: bytes) -> None:
        """Take a line that a job has written for the log."""
        self._out.append(frame(SAID, record))

    def output(self, record: bytes) -> None:
        """Take what a job has printed, for somebody who looks on; it goes out behind the start of the job."""
        self._tell_starts()
        self._out.append(frame(OUTPUT, record))

    # ---- the loop

    def run(self, frames: list[tuple[int, bytes]]) -> None:
        """Serve until the daemon wants no more, or is gone.

        Args:
            frames: what has been read already.
        """
        try:
            self._out.append(frame(READY))
            self._handle_frames(frames)
            while not self._finished():
                self._turn()
        except DaemonGone:
            # Nobody wants results any more.
            pass
        finally:
            self._pool.draining = True
            self._end_all()

    def _finished(self) -> bool:
        return self._closing and not self._pool.busy and not (self._out or self._unsent or self._results)

    def _turn(self) -> None:
        """Go once round: what has happened, what follows from it, what is due, and only then what can wait."""
        pool = self._pool
        pool.tick()
        if self._desk is not None:
            self._desk.tick()
        pool.dispatch()
        self._confirm_slots()
        self._flush()
        # Forking ahead comes last: it takes longer than all the rest.
        if self._finished():
            return
        pool.top_up()
        for descriptor, mask in self._poll.poll(pool.timeout()):
            if descriptor == self._control:
                if mask & WRITABLE:
                    self._send(b"")
                if mask & ~WRITABLE:
                    self._read()
            elif self._desk is None or not self._desk.handle(descriptor):
                pool.handle(descriptor, mask)

    # ---- from the daemon

    def _read(self) -> None:
        try:
            data = os.read(self._control, READ_BYTES)
        except BlockingIOError:
            return
        except ConnectionError as error:
            raise DaemonGone from error
        if not data:
            raise DaemonGone
        self._handle_frames(self._reader.feed(data))

    def _handle_frames(self, frames: list[tuple[int, bytes]]) -> None:
        for kind, payload in frames:
            if kind == RUN:
                self._queue(payload)
            elif kind == SLOTS:
                self._change_slots(COUNT.unpack(payload)[0])
            elif kind == CANCEL:
                for start in range(0, len(payload), KEY_BYTES):
                    job = self._jobs.get(payload[start : start + KEY_BYTES])
                    if job is not None:  # else its result is already on the way
                        self._pool.cancel(job)
            elif kind == RECALL:
                for start in range(0, len(payload), KEY_BYTES):
                    job = self._jobs.get(payload[start : start + KEY_BYTES])
                    if job is not None:
                        self._pool.recall(job)
            elif kind == TAKEN:
                job = self._jobs.get(payload[:KEY_BYTES])
                if job is not None:
                    (self._desk or self._pool).answer(job, payload[KEY_BYTES:])
            elif kind == LIMITS:
                for number, attempt, timeout_s, cpu_s, memory, processes in unpack_limits(payload):
                    self._limits[KEY.pack(number, attempt)] = (timeout_s, cpu_s, memory, processes)
            elif kind == GRANT:
                for number, attempt, how, text in unpack_jobs(payload):
                    record = JOB.pack(number, attempt, how, len(text)) + text
                    self._granted[KEY.pack(number, attempt)] = record
            elif kind == WATCH:
                job = self._jobs.get(payload[:KEY_BYTES])
                if job is not None:
                    self._pool.watch(job, payload[KEY_BYTES:])
            elif kind == CLOSE:
                self._close(terminate=payload[:1] == b"\x01")
            else:
                self.log(f"the runner does not know frames of kind {kind}")

    def _find_running(self, key: bytes) -> Job | None:
        job = self._jobs.get(key)
        return None if job is None or job.child is None else job

    def _queue(self, payload: bytes) -> None:
        jobs, queue = self._jobs, self._pool.queue
        unpack, size = JOB.unpack_from, JOB.size
        start, end = 0, len(payload)
        while start < end:
            stop = start + size + unpack(payload, start)[3]
            key = payload[start : start + KEY_BYTES]
            job = Job(key, payload[start:stop])
            jobs[key] = job
            if self._granted and (equipment := self._granted.pop(key, None)) is not None:
                job.equipment = equipment
                self._pool.apart += 1
                queue.appendleft(job)
            else:
                queue.append(job)
            start = stop
            if self._limits and (limits := self._limits.pop(key, None)) is not None:
                self._pool.limit(job, limits)

    def _change_slots(self, slots: int) -> None:
        if slots < self._pool.slots or self._owed is not None:
            self._owed = slots
        self._pool.set_slots(slots)

    def _confirm_slots(self) -> None:
        if self._owed is not None and len(self._pool.plain) <= self._owed:
            self._out.append(frame(SLOTS, COUNT.pack(self._owed)))
            self._owed = None

    def _close(self, *, terminate: bool) -> None:
        self._closing = True
        self._pool.draining = True
        for job in list(self._jobs.values()):
            if terminate or job.child is None:
                self._pool.cancel(job)
        if terminate:
            self._pool.kill_all()

    # ---- to the daemon

    def _tell_starts(self) -> None:
        if self._starts:
            # Of those that have ended in the same turn the result tells everything.
            starts = [start for start in self._starts if KEY.pack(*start[:2]) in self._jobs]
            if starts:
                self._out.append(frame(STARTED, pack_starts(starts)))
            self._starts = []

    def _flush(self) -> None:
        self._tell_starts()
        if self._results:
            self._out.append(frame(ENDED, b"".join(self._results)))
            self._results = []
        if self._out:
            data = b"".join(self._out)
            self._out = []
            self._send(data)

    def _send(self, data: bytes) -> None:
        """Write what the daemon takes by now; *data* comes behind what waits already."""
        unsent = self._unsent
        waiting = bool(unsent)
        if data:
            unsent.append(memoryview(data))
        try:
            while unsent:
                sent = os.writev(self._control, list(islice(unsent, WRITE_PIECES)))
                while unsent and sent >= len(unsent[0]):
                    sent -= len(unsent.popleft())
                if sent:
                    unsent[0] = unsent[0][sent:]
        except BlockingIOError:
            # The rest goes when the poll reports that there is room.
            pass
        except ConnectionError as error:
            raise DaemonGone from error
        if waiting != bool(unsent):
            self._poll.modify(self._control, READABLE | WRITABLE if unsent else READABLE)

    # ---- the end

    def _end_all(self) -> None:
        """Kill whatever is left, and wait for it, but not for ever."""
        deadline = monotonic() + LAST_WAIT_S
        self._pool.queue.clear()
        self._pool.kill_all()
        self._pool.reap()
        while not self._pool.empty and monotonic() < deadline:
            self._poll.poll(max(0.0, self._pool.timeout()))
            self._pool.reap()


def _read_until_loaded(
    control: int, reader: FrameReader
) -> tuple[Settings, bytes, bytes, list[tuple[int, bytes]]] | None:
    """Read CONFIGURE, SETUP if it comes, and LOAD.

    Returns:
        settings, arguments of setup, code, and the frames behind them; None if the daemon is gone.
    """
    settings: Settings | None = None
    code: bytes | None = None
    arguments = b""
    rest: list[tuple[int, bytes]] = []
    while code is None:
        data = os.read(control, READ_BYTES)
        if not data:
            return None
        for kind, payload in reader.feed(data):
            if code is not None:
                rest.append((kind, payload))
            elif kind == CONFIGURE:
                settings = read_settings(payload)
            elif kind == LOAD and settings is not None:
                code = _read_part(payload)
            elif kind == SETUP and settings is not None:
                arguments = _read_part(payload)
            else:
                raise ValueError(f"frame of kind {kind} before CONFIGURE and LOAD")
    assert settings is not None
    return settings, arguments, code, rest


def _read_part(payload: bytes) -> bytes:
    if payload[:1] != b"\x01":
        return payload[1:]
    with open(os.fsdecode(payload[1:]), "rb") as file:
        return file.read()


def _prepare(settings: Settings) -> None:
    """Give this process, and so every job, the folder, the standard input and the import path of jobs."""
    # With it the dynamic loader finds all functions at the start, rather than each child some of them. It is for us.
    os.environ.pop("LD_BIND_NOW", None)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    open_streams()
    os.chdir(settings.folder)
    if not sys.flags.safe_path and sys.path:
        sys.path[0] = settings.folder  # was the folder in which the daemon has started us
    else:
        sys.path.insert(0, settings.folder)


def _load(settings: Settings, code: bytes) -> Computation | str | None:
    """Load the computation, or tell why that cannot be done; None if there is only a program."""
    try:
        _prepare(settings)
        if settings.program:
            _, _, code = code.partition(b"\0")  # behind its name
            if not code:
                return None
        computation = load(code, Inside(settings), is_program=bool(settings.program))
    except BadBundle as error:
        return f"the computation cannot be loaded on {settings.place}: {error}"
    except BaseException as error:
        # Whatever code of the user does at import, SystemExit included.
        return explain.bundle(error, settings.place)
    sys.stdout.flush()
    sys.stderr.flush()
    return computation


def main(control: int) -> Never:
    """Run a runner; never returns.

    Args:
        control: the control socket to the daemon.
    """
    status = 0
    try:
        os.set_inheritable(
            control, False
        )  # programs that the computation starts must not hold the socket open
        reader = FrameReader()
        given = _read_until_loaded(control, reader)
        if given is not None:
            status = _serve(control, reader, *given)
    except BaseException:
        # An error of our own. The daemon has our standard error, and says that the runner has ended.
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        status = 1
    finally:
        os._exit(status)  # threads and exit handlers of the computation must not keep a runner alive


def _serve(
    control: int,
    reader: FrameReader,
    settings: Settings,
    arguments: bytes,
    code: bytes,
    frames: list[tuple[int, bytes]],
) -> int:
    modules = len(sys.modules)
    try:
        desk = Desk(settings) if settings.program else None
    except OSError as error:
        text = f"what programs speak with cannot be made on {settings.place}: {explain.brief(error)}"
        _send_last(control, frame(FAILED, text.encode("utf-8", "replace")))
        return 1
    loaded = _load(settings, code)
    if isinstance(loaded, str):
        _send_last(control, frame(FAILED, loaded.encode("utf-8", "replace")))
        return 1
    spawning: Spawning | None = None
    if settings.spawn:
        from dispy_node.runner.spawning import Spawning

        spawning = Spawning(settings, code, loaded)
    bracket: Bracket | None = None
    failure = ""
    if loaded is not None and (loaded.setup or loaded.cleanup):
        from dispy_node.runner.bracket import Bracket

        bracket = Bracket(loaded, arguments, settings, control)
        failure = bracket.begin()
    if spawning is not None and not failure:
        failure = spawning.write()
    if failure:
        _send_last(control, frame(FAILED, failure.encode("utf-8", "replace")))
        if bracket is not None:
            bracket.end()
        return 1
    foreign = len(sys.modules) != modules
    computation = None if settings.program else loaded
    try:
        Runner(control, reader, settings, computation, foreign, desk, spawning).run(frames)
    finally:
        if bracket is not None:
            bracket.end()
    return 0


def _send_last(control: int, data: bytes) -> None:
    while data:
        data = data[os.write(control, data) :]
