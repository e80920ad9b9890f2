"""The daemon's side of a runner: starts the process, speaks frames with it, sees it end."""

from __future__ import annotations

import contextlib
import enum
import json
import logging
import math
import os
import signal
import socket
import stat
import struct
import subprocess
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import trio

from dispy.interfaces import ExecutorPlan
from dispy.model import INLINE_BODY_BYTES, OUTPUT_BYTES, AttemptKey, ComputationId, JobId, Outcome
from dispy.printable import printable
from dispy.wire.messages import (
    FILE,
    LOG,
    PARTIAL,
    JobLimits,
    JobOutput,
    JobResult,
    JobStart,
    News,
    WatchOutput,
)
from dispy_node.confine.accounts import Account, find_account
from dispy_node.confine.enter import entering
from dispy_node.engine import events as ev
from dispy_node.engine.records import Body, Grant, Spooled
from dispy_node.environment import runner_environment
from dispy_node.outlet import Outlet
from dispy_node.resources import granted_variables
from dispy_node.runner import frames
from dispy_node.runner.equipment import pack_variables
from dispy_node.runner.shared import shared_name

log = logging.getLogger("dispy.node")

CONTROL_VARIABLE = "DISPY_RUNNER_FD"
"""Environment variable that tells the runner its control socket."""

MARK_VARIABLE = "DISPY_RUNNER_MARK"
"""Environment variable that all processes of one runner share, so that none can be left behind."""

READ_BYTES = 256 * 1024

END_S = 2.0
"""How long the runner may take to exit after its socket has closed, before it is killed."""

KILLED_S = 10.0
"""How long a killed runner is waited for; one that hangs in the system may never go."""

LOADING_S = 1.0
"""How long a runner that is not ready may take to end: it reads nothing while it loads, and has no jobs."""

TERMINATE_S = 10.0
"""How long a runner may take to cancel its jobs: both graces (5 and 2 seconds), and time to tell of it."""

CLEANUP_S = 8.0
"""How long cleanup may take: a client waits for 10 s, and is to hear of it."""

POLL_S = 0.1
"""How often the process is looked at where the system cannot tell of its end."""

MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Longest frame that is taken from a runner."""

UNSENT_BYTES = 256 * 1024 * 1024
"""What may wait for a runner to be read, or it is killed: many times what a scheduler sends ahead. A runner that reads
nothing, but tells that jobs have started, would otherwise let their arguments gather."""

DETAIL_BYTES = 64 * 1024
"""Longest explanation that is taken from a runner; the rest is cut."""

LOG_CHARS = 1000
"""Longest line of a runner that is logged; the rest is cut."""

LOG_LINES = 20
"""How many lines of one runner are logged in a minute."""

SAID_LINES = 600
"""How many lines of its jobs."""


class Phase(enum.Enum):
    """What a runner is doing, as far as its time is limited."""

    LOADING = "loading"
    SETUP = "setup"
    READY = "ready"
    CLEANUP = "cleanup"


class RunnerProcess:
    """A runner that has been started for one computation.

    Args:
        spool: its own folder, into which bodies of jobs are moved, and the only one whose files it may hand over.
            Those are moved to the folder above, so that they outlive it.
        emit: takes what the runner tells, as events of the node engine.
    """

    def __init__(self, computation: ComputationId, spool: Path, emit: Callable[[ev.Event], None]) -> None:
        self.computation = computation
        self._spool = spool
        self._emit = emit
        self._mark = uuid.uuid4().hex
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path()
        """Its working directory, once it is started."""
        self.account: Account | None = None
        """Whose process it is; None: ours."""
        self._early: list[bytes] = []
        """What it was told before it was started and configured."""
        self._configured = False
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._writable = trio.Event()
        self._reader = frames.FrameReader(MAX_FRAME_BYTES)
        self._reading: trio.CancelScope | None = None
        """Within it what the runner tells is read; it has a deadline when the runner is to end."""
        self._logged: deque[float] = deque(maxlen=LOG_LINES)
        """When its last lines were logged."""
        self._said: deque[float] = deque(maxlen=SAID_LINES)
        """When the last lines of its jobs were logged."""
        self._ready = False
        self._phase = Phase.LOADING
        self._phase_ends_at = math.inf
        self._setup_timeout_s = 0.0
        self._outlet: Outlet | None = None
        """Where it prints, if it has setup or cleanup."""
        self._trouble = ""
        """What has gone wrong in cleanup."""
        self._failure = ""
        self._garbled = ""
        self.told_to_close = False
        self._terminate = False

    def start(
        self,
        plan: ExecutorPlan,
        folder: Path,
        *,
        setup_timeout_s: float = 0.0,
        let_through: Collection[str] | None = None,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Start the process.

        Args:
            plan: how.
            folder: its working directory.
            setup_timeout_s: how long setup may take; 0.0 if there is neither setup nor cleanup.
            let_through: see `runner_environment`.
            variables: what jobs are told by their environment.

        Raises:
            OSError: it cannot be started (too many processes, the interpreter is gone).
            UsageError: the user as whom it is to run is unknown.
        """
        self.folder = folder
        self.account = find_account(plan.user) if plan.user else None
        ours, theirs = socket.socketpair()
        self._setup_timeout_s = setup_timeout_s
        outlet = self._outlet = Outlet(self._log_output) if setup_timeout_s else None
        own = {**variables, CONTROL_VARIABLE: str(theirs.fileno()), MARK_VARIABLE: self._mark}
        try:
            with theirs:
                self._process = subprocess.Popen(
                    entering(plan.command, self.account, plan.cgroup),
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=None if outlet is None else outlet.theirs,
                    stderr=None if outlet is None else outlet.theirs,
                    env=runner_environment(os.environ, plan, own, let_through),
                    cwd=folder,
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            if outlet is not None:
                outlet.close_theirs()
                outlet.close()
            raise
        if outlet is not None:
            outlet.close_theirs()
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            ours.setsockopt(socket.SOL_SOCKET, option, 1024 * 1024)
        ours.setblocking(False)
        self._socket = ours

    def configure(self, settings: dict[str, object], code: Body, setup_args: Body = b"") -> None:
        """Tell the runner what it is for, and then what it was told so far."""
        self._configured = True
        base: dict[str, object] = {"inline_bytes": INLINE_BODY_BYTES, "output_bytes": OUTPUT_BYTES}
        self._send(frames.frame(frames.CONFIGURE, json.dumps(base | settings).encode()))
        if setup_args:
            self._send_part(frames.SETUP, setup_args)
        self._send_part(frames.LOAD, code)
        for data in self._early:
            self._send(data)
        self._early.clear()

    def _send_part(self, kind: int, part: Body) -> None:
        payload = b"\1" + self._give(part) if isinstance(part, Spooled) else b"\0" + part
        self._send(frames.frame(kind, payload))

    def run_jobs(
        self, jobs: list[tuple[AttemptKey, Body]], carrying: frozenset[AttemptKey] = frozenset()
    ) -> None:
        """Hand jobs over, and with them what lies in spool files; *carrying* bring along what is for them only."""
        packed = []
        for key, body in jobs:
            flags = frames.CARRIES if key in carrying else 0
            if isinstance(body, Spooled):
                packed.append((key[0], key[1], flags | frames.SPOOLED, self._give(body)))
            else:
                packed.append((key[0], key[1], flags, body))
        self._send(frames.frame(frames.RUN, frames.pack_jobs(packed)))

    def limit_jobs(self, limits: Mapping[AttemptKey, JobLimits]) -> None:
        """Tell what jobs may use that are to be handed over next."""
        packed = [
            (*key, one.timeout_s, one.cpu_time_s, one.memory_bytes, one.processes)
            for key, one in limits.items()
        ]
        self._send(frames.frame(frames.LIMITS, frames.pack_limits(packed)))

    def grant_jobs(self, granted: Mapping[AttemptKey, Grant]) -> None:
        """Tell what jobs have for themselves that are to be handed over next, and start whatever slots there are."""
        packed = [
            (
                *key,
                frames.EQUIP_ANEW if grant.items else frames.EQUIP,
                pack_variables(granted_variables(grant)),
            )
            for key, grant in granted.items()
        ]
        self._send(frames.frame(frames.GRANT, frames.pack_jobs(packed)))

    def _give(self, body: Spooled) -> bytes:
        """Move a spool file into the runner's folder, which may be all of the spool that it sees; return its path.

        The runner removes it when it has been read, and whoever removes the folder does if the runner was killed.
        """
        return os.fsencode(self._move(body, f"in-{uuid.uuid4().hex}"))

    def keep_data(self, number: int, data: Spooled) -> None:
        """Take over shared data; it stays until it is forgotten, or the folder is removed."""
        self._move(data, shared_name(number))

    def forget_data(self, numbers: Sequence[int]) -> None:
        """Remove shared data; what jobs have mapped of it stays until they end."""
        for number in numbers:
            try:
                os.unlink(self._spool / shared_name(number))
            except FileNotFoundError:  # a job of this very computation was faster
                continue
            except OSError as error:  # or has put something else there; it goes with the folder
                log.warning("shared data %d of %s stay: %s", number, self.computation, error.strerror)

    def _move(self, body: Spooled, name: str) -> Path:
        target = self._spool / name
        try:
            if self.account is not None:  # before the move: behind it, the user could put a link in its place
                os.chown(body.path, self.account.uid, self.account.gid)
            os.rename(body.path, target)
        except OSError as error:
            log.warning("the runner of %s will miss %s: %s", self.computation, body.path, error.strerror)
        return target

    def set_slots(self, slots: int) -> None:
        """Allow so many jobs at once."""
        self._send(frames.frame(frames.SLOTS, frames.COUNT.pack(slots)))

    def cancel(self, attempts: list[AttemptKey]) -> None:
        """End these attempts."""
        self._send(frames.frame(frames.CANCEL, frames.pack_keys(attempts)))

    def recall(self, attempts: list[AttemptKey]) -> None:
        """Have those of these attempts given back that are not started."""
        self._send(frames.frame(frames.RECALL, frames.pack_keys(attempts)))

    def answer(self, key: AttemptKey, number: int, *, taken: bool) -> None:
        """Tell an attempt whether its news number *number* is taken."""
        self._send(frames.frame(frames.TAKEN, frames.TAKEN_HEAD.pack(*key, number, taken)))

    def watch(self, message: WatchOutput) -> None:
        """Have output of an attempt sent as it comes."""
        head = frames.WATCH_HEAD.pack(
            message.job, message.attempt, message.number, message.stream, message.start, message.limit
        )
        self._send(frames.frame(frames.WATCH, head))

    def close(self, *, terminate: bool) -> None:
        """Have the runner end. It is killed if that takes too long, unless it lets jobs finish."""
        self.told_to_close = True
        self._terminate = self._terminate or terminate
        self._send(frames.frame(frames.CLOSE, bytes([terminate])))
        self._set_deadline()

    def _set_deadline(self) -> None:
        if self._reading is None:
            return
        if not self.told_to_close or self._phase is Phase.CLEANUP:
            self._reading.deadline = self._phase_ends_at
        elif not self._ready:
            self._reading.deadline = trio.current_time() + LOADING_S
        elif self._terminate:
            self._reading.deadline = trio.current_time() + TERMINATE_S
        else:
            self._reading.deadline = math.inf

    def _enter(self, phase: Phase, limit_s: float = math.inf) -> None:
        self._phase = phase
        self._phase_ends_at = trio.current_time() + limit_s
        self._set_deadline()

    async def serve(self) -> None:
        """Read what the runner tells until it ends; then tell that it has ended.

        Cancelled, it kills the runner with all its jobs.
        """
        assert self._socket is not None
        assert self._process is not None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                if self._outlet is not None:
                    nursery.start_soon(self._outlet.serve)
                with trio.CancelScope() as self._reading:
                    nursery.start_soon(self._watch, self._reading)
                    self._set_deadline()
                    await self._read()
                nursery.cancel_scope.cancel()
            if self._reading.cancelled_caught:
                if self._process.poll() is None:
                    self._note_delay()
                    self._kill()
                else:
                    self._read_rest()
        finally:
            self._reading = None
            # The runner kills all its jobs and exits when this end of the socket is closed.
            self._socket.close()
            with trio.CancelScope(shield=True):
                status = await self._reap_drained()
        self._emit(self._end_event(status))

    def _note_delay(self) -> None:
        """Say what takes too long."""
        if self._phase is Phase.CLEANUP:
            self._trouble = f"cleanup did not finish within {CLEANUP_S:g} s and was killed"
        elif self._phase is Phase.SETUP and not self.told_to_close:
            self._failure = (
                f"setup did not finish within {self._setup_timeout_s:g} s (setup_timeout) and was killed"
            )
        else:
            log.warning("the runner of %s did not end in time and is killed", self.computation)

    def _end_event(self, status: int) -> ev.RunnerFailed | ev.RunnerEnded:
        if self._phase is Phase.CLEANUP and status and not (self._trouble or self._failure):
            self._trouble = f"cleanup has ended its process, which {_describe_end(status)}"
        printed = "" if self._outlet is None else self._outlet.tail()
        printed = printed and f"\n  it has printed:{printed}"
        trouble = self._trouble and self._trouble + printed
        reason = self._failure or self._garbled
        if self.told_to_close and not reason:
            return ev.RunnerEnded(self.computation, trouble=trouble)
        if self._phase is Phase.SETUP and not reason:
            reason = self._failure = f"setup has ended its process, which {_describe_end(status)}"
        reason = reason or f"its runner {_describe_end(status)}"
        if self._ready and not self._failure:
            return ev.RunnerEnded(self.computation, reason, trouble)
        then = self._trouble and f"\n  then {self._trouble}"
        early = "" if self._failure else " before it was ready"
        return ev.RunnerFailed(self.computation, f"{reason}{early}{then}{printed}")

    def _send(self, data: bytes) -> None:
        """Write at once what the socket takes; the writer task sends the rest."""
        if not self._configured:
            self._early.append(data)
            return
        assert self._socket is not None
        view = memoryview(data)
        if not self._unsent:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                pass
            except OSError:
                return  # the runner is gone; the reader tells
        if view:
            self._unsent.append(view)
            self._unsent_bytes += len(view)
            self._writable.set()
            if self._unsent_bytes > UNSENT_BYTES and self._reading is not None:
                self._garbled = f"its runner reads nothing of the {self._unsent_bytes} bytes that wait for it"
                self._reading.cancel()

    async def _write(self) -> None:
        assert self._socket is not None
        while True:
            while self._unsent:
                await trio.lowlevel.wait_writable(self._socket)
                try:
                    count = self._socket.send(self._unsent[0])
                except BlockingIOError:
                    continue
                except OSError:
                    return
                self._unsent_bytes -= count
                self._unsent[0] = self._unsent[0][count:]
                if not self._unsent[0]:
                    self._unsent.popleft()
            self._writable = trio.Event()
            await self._writable.wait()

    async def _read(self) -> None:
        assert self._socket is not None
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                data = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                return
            if not data or not self._take(data):
                return

    def _read_rest(self) -> None:
        """Read what the runner had told before it ended, when something else holds its end of the socket."""
        assert self._socket is not None
        for _ in range(MAX_FRAME_BYTES // READ_BYTES):
            try:
                data = self._socket.recv(READ_BYTES)
            except OSError:
                return
            if not data or not self._take(data):
                return

    def _take(self, data: bytes) -> bool:
        """Emit what the bytes tell; return False if no runner sends them.

        Results that follow each other become one event, however the runner has sent them: each event costs, and the
        client answers each message with results by one with jobs, so that small ones would stay small for ever.
        """
        events: list[ev.Event] = []
        results: list[ev.AttemptResult] | None = None
        good = True
        try:
            for kind, payload in self._reader.feed(data):
                if kind == frames.ENDED:
                    found = self._parse_results(payload)
                    if results is None:
                        results = []
                        events.append(ev.AttemptsEnded(self.computation, results))
                    results += found
                elif (event := self._parse(kind, payload)) is not None:
                    events.append(event)
                    results = None
        except (struct.error, ValueError, OSError) as error:
            # Code of a job may have got hold of the runner; the daemon does not trust it.
            self._garbled = f"its runner sent what no runner sends: {error}"
            good = False
        for event in events:
            self._emit(event)
        return good

    async def _watch(self, reading: trio.CancelScope) -> None:
        """End the reading with the process: a program that it has started may hold its end of the socket."""
        await self._process_end()
        reading.cancel()

    def _parse(self, kind: int, payload: bytes) -> ev.Event | None:
        """Return what a frame tells the engine, or None.

        Raises:
            struct.error, ValueError, OSError: no runner sends this.
        """
        computation = self.computation
        if kind == frames.STARTED:
            starts = [JobStart(*start) for start in frames.unpack_starts(payload)]
            _check_times(*(start.started_at for start in starts))
            return ev.AttemptsStarted(computation, starts)
        elif kind == frames.NEWS:
            return self._parse_news(payload)
        elif kind == frames.OUTPUT:
            job, attempt, number, offset, missed = frames.OUTPUT_HEAD.unpack_from(payload)
            data = payload[frames.OUTPUT_HEAD.size :]
            if len(data) > INLINE_BODY_BYTES:
                raise ValueError(f"{len(data)} bytes of output at once")
            return ev.OutputTold(
                computation, JobOutput(computation, job, attempt, number, offset, missed, data)
            )
        elif kind == frames.SAID:
            self._log_said(payload)
        elif kind == frames.SLOTS:
            return ev.SlotsGivenUp(computation, frames.COUNT.unpack(payload)[0])
        elif kind == frames.READY:
            self._ready = True
            self._enter(Phase.READY)
            return ev.RunnerReady(computation)
        elif kind == frames.FAILED:
            self._failure = payload[:DETAIL_BYTES].decode("utf-8", "replace")
        elif kind == frames.SETUP and self._phase is Phase.LOADING and self._setup_timeout_s:
            self._enter(Phase.SETUP, self._setup_timeout_s)
        elif kind == frames.CLEANUP and self._setup_timeout_s:
            if self._phase is not Phase.CLEANUP:
                self._enter(Phase.CLEANUP, CLEANUP_S)
            self._trouble = payload[:DETAIL_BYTES].decode("utf-8", "replace")
        elif kind == frames.SHUTDOWN and self._phase is Phase.CLEANUP:
            return ev.ShutdownAsked(computation)
        elif kind == frames.LOG:
            self._log(payload[: 4 * LOG_CHARS].decode("utf-8", "replace")[:LOG_CHARS])
        else:
            raise ValueError(f"a frame of kind {kind}")
        return None

    def _parse_results(self, payload: bytes) -> list[ev.AttemptResult]:
        """Return what a frame with results tells; raises as `_parse`."""
        results = []
        for (
            job,
            attempt,
            outcome,
            code,
            started_at,
            ended_at,
            detail,
            is_path,
            body,
        ) in frames.unpack_results(payload):
            spooled = None
            if is_path:
                spooled, body = self._take_spooled(os.fsdecode(body)), b""
            _check_times(started_at, ended_at)
            _check_inline(body)
            result = JobResult(job, attempt, Outcome(outcome), code, _cut(detail), started_at, ended_at, body)
            results.append(ev.AttemptResult(result, spooled))
        return results

    def _parse_news(self, payload: bytes) -> ev.NewsTold | None:
        """Return what a job tells, or None if the file that it names is gone; raises as `_parse`."""
        job, attempt, number, kind, path, mode, modified_at, digest, is_path, body = frames.unpack_news(
            payload
        )
        _check_times(modified_at)
        _check_inline(body)
        if kind not in (PARTIAL, FILE, LOG) or is_path not in {PARTIAL: (0, 1), FILE: (1,), LOG: (0,)}[kind]:
            raise ValueError(f"news of kind {kind}")
        spooled = None
        if is_path:
            try:
                spooled, body = self._take_spooled(os.fsdecode(body)), b""
            except FileNotFoundError:
                # A program that talks past `dispy-job` may name a file twice; the runner and other jobs go on.
                self.answer((JobId(job), attempt), number, taken=False)
                return None
        if kind != FILE:
            path, mode, modified_at, digest = "", 0, 0.0, b""
        news = News(job, attempt, number, kind, body, 0, 0, path, mode, modified_at, digest)
        return ev.NewsTold(self.computation, news, spooled)

    def _log(self, text: str) -> None:
        """Log a line of the runner, unless it has logged too many."""
        if _may_log(self._logged):
            log.warning("the runner of %s: %s", self.computation, printable(text))

    def _log_output(self, line: str) -> None:
        log.info("the runner of %s prints: %s", self.computation, line)

    def _log_said(self, payload: bytes) -> None:
        """Log a line that a job has written for the node's log, unless its runner has too many."""
        job, _ = frames.KEY.unpack_from(payload)
        (level,) = frames.LEVEL.unpack_from(payload, frames.KEY.size)
        data = payload[frames.KEY.size + frames.LEVEL.size :]
        if _may_log(self._said):
            text = printable(data[: 4 * LOG_CHARS].decode("utf-8", "replace")[:LOG_CHARS])
            log.log(level, "job %d of %s: %s", job, self.computation, text)

    def _take_spooled(self, path: str) -> Spooled:
        """Take over a result file, which user code could have named: only a plain file of the spool folder will do.

        Raises:
            ValueError, OSError: it is something else.
        """
        problem = f"the runner names {path!r}, which is no file of its spool folder"
        if Path(path).parent != self._spool:
            raise ValueError(problem)
        taken = self._spool.parent / f"out-{uuid.uuid4().hex}"
        os.rename(path, taken)
        # Only now: before, user code could have put something else in its place after the look.
        status = os.lstat(taken)
        owner = os.geteuid() if self.account is None else self.account.uid
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_uid != owner:
            with contextlib.suppress(
                IsADirectoryError, PermissionError
            ):  # a folder stays until the next start
                os.unlink(taken)
            raise ValueError(problem)
        return Spooled(str(taken), status.st_size)

    async def _reap_drained(self) -> int:
        """Do as `_reap`, and read what the process prints meanwhile: cleanup may run until now."""
        outlet = self._outlet
        if outlet is None:
            return await self._reap()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outlet.serve)
            status = await self._reap()
            nursery.cancel_scope.cancel()
        outlet.close()
        return status

    async def _reap(self) -> int:
        """Wait for the process, kill it if it stays, and kill what it left behind; return its exit status."""
        assert self._process is not None
        with trio.move_on_after(CLEANUP_S if self._ready and self._outlet is not None else END_S):
            await self._process_end()
        if self._process.poll() is None:
            self._kill()
            with trio.move_on_after(KILLED_S):
                await self._process_end()
        # A runner that ends well may still have left a program that its computation has started at import.
        await trio.to_thread.run_sync(_kill_marked, self._mark)
        status = self._process.poll()
        return -signal.SIGKILL if status is None else status

    def _kill(self) -> None:
        """Kill the process and its group; what is in other groups goes by its mark."""
        assert self._process is not None
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except OSError as error:
            log.warning("the runner of %s cannot be killed: %s", self.computation, error.strerror)

    async def _process_end(self) -> None:
        """Return when the process has ended."""
        assert self._process is not None
        if self._process.poll() is not None:
            return
        try:
            descriptor = os.pidfd_open(self._process.pid)
        except OSError:  # an old kernel, or no descriptor is left
            while self._process.poll() is None:
                await trio.sleep(POLL_S)
            return
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)


def _may_log(lines: deque[float]) -> bool:
    """Tell whether one more line may be logged, and count it."""
    now = time.monotonic()
    if len(lines) == lines.maxlen and now - lines[0] < 60:
        return False
    lines.append(now)
    return True


def _check_inline(body: bytes) -> None:
    if len(body) > INLINE_BODY_BYTES:
        raise ValueError(f"a body of {len(body)} bytes that is in no file")


def _check_times(*times: float) -> None:
    for at in times:
        if not math.isfinite(at):
            raise ValueError(f"the time {at}")


def _cut(text: str) -> str:
    if len(text) <= DETAIL_BYTES // 4:
        return text
    return text.encode("utf-8", "replace")[:DETAIL_BYTES].decode("utf-8", "ignore")


def _describe_end(status: int) -> str:
    if status < 0:
        known = {number.value: number.name for number in signal.Signals}  # without most real-time signals
        return f"was killed by signal {-status} ({known.get(-status, 'a real-time signal')})"
    return f"ended with status {status}"


def _kill_marked(mark: str) -> None:
    """Kill every process that carries the mark: jobs of a runner that was itself killed."""
    wanted = f"{MARK_VARIABLE}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (entry / "environ").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue  # it is gone, or another user's
