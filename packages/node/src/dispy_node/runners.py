"""The daemon's side of a runner: starts the process, speaks frames with it, sees it end."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import struct
import subprocess
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path

import trio

from dispy.interfaces import ExecutorPlan
from dispy.model import INLINE_BODY_BYTES, AttemptKey, ComputationId
from dispy.wire.messages import JobResult, JobStart
from dispy_node.engine import events as ev
from dispy_node.engine.records import Body, Spooled
from dispy_node.runner import frames

CONTROL_VARIABLE = "DISPY_RUNNER_FD"
"""Environment variable that tells the runner its control socket."""

MARK_VARIABLE = "DISPY_RUNNER_MARK"
"""Environment variable that all processes of one runner share, so that none can be left behind."""

READ_BYTES = 256 * 1024

END_S = 2.0
"""How long the runner may take to exit after its socket has closed, before it is killed."""

OUTPUT_BYTES = 10_000_000
"""Output of a job that is kept, per stream; of more, the middle is dropped."""


class RunnerProcess:
    """A runner that has been started for one computation.

    Args:
        spool: the only folder whose files it may hand over.
        emit: takes what the runner tells, as events of the node engine.
    """

    def __init__(self, computation: ComputationId, spool: Path, emit: Callable[[ev.Event], None]) -> None:
        self.computation = computation
        self._spool = spool
        self._emit = emit
        self._mark = uuid.uuid4().hex
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[bytes] = []
        """What it was told before it was started and configured."""
        self._configured = False
        self._unsent: deque[memoryview] = deque()
        self._writable = trio.Event()
        self._reader = frames.FrameReader()
        self._ready = False
        self._failure = ""
        self._garbled = ""
        self.told_to_close = False

    def start(self, plan: ExecutorPlan, folder: Path) -> None:
        """Start the process.

        Raises:
            OSError: it cannot be started (too many processes, the interpreter is gone).
        """
        ours, theirs = socket.socketpair()
        environment = {
            **os.environ,
            **plan.environment,
            CONTROL_VARIABLE: str(theirs.fileno()),
            MARK_VARIABLE: self._mark,
        }
        try:
            with theirs:
                self._process = subprocess.Popen(
                    plan.command,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env=environment,
                    cwd=folder,
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            ours.setsockopt(socket.SOL_SOCKET, option, 1024 * 1024)
        ours.setblocking(False)
        self._socket = ours

    def configure(self, settings: dict[str, object], code: Body) -> None:
        """Tell the runner what it is for, and then what it was told so far."""
        self._configured = True
        base: dict[str, object] = {"inline_bytes": INLINE_BODY_BYTES, "output_bytes": OUTPUT_BYTES}
        self._send(frames.frame(frames.CONFIGURE, json.dumps(base | settings).encode()))
        payload = b"\1" + os.fsencode(code.path) if isinstance(code, Spooled) else b"\0" + code
        self._send(frames.frame(frames.LOAD, payload))
        for data in self._early:
            self._send(data)
        self._early.clear()

    def run_jobs(self, jobs: list[tuple[AttemptKey, Body]]) -> None:
        """Hand jobs over."""
        packed = [
            (key[0], key[1], True, os.fsencode(body.path))
            if isinstance(body, Spooled)
            else (key[0], key[1], False, body)
            for key, body in jobs
        ]
        self._send(frames.frame(frames.RUN, frames.pack_jobs(packed)))

    def set_slots(self, slots: int) -> None:
        """Allow so many jobs at once."""
        self._send(frames.frame(frames.SLOTS, frames.COUNT.pack(slots)))

    def cancel(self, attempts: list[AttemptKey]) -> None:
        """End these attempts."""
        self._send(frames.frame(frames.CANCEL, frames.pack_keys(attempts)))

    def close(self, *, terminate: bool) -> None:
        """Have the runner end."""
        self.told_to_close = True
        self._send(frames.frame(frames.CLOSE, bytes([terminate])))

    async def serve(self) -> None:
        """Read what the runner tells until it ends; then tell that it has ended.

        Cancelled, it kills the runner with all its jobs.
        """
        assert self._socket is not None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read()
                nursery.cancel_scope.cancel()
        finally:
            # The runner kills all its jobs and exits when this end of the socket is closed.
            self._socket.close()
            with trio.CancelScope(shield=True):
                status = await self._reap()
        self._emit(self._end_event(status))

    def _end_event(self, status: int) -> ev.RunnerFailed | ev.RunnerEnded:
        reason = self._failure or self._garbled
        if self.told_to_close and not reason:
            return ev.RunnerEnded(self.computation)
        reason = reason or f"its runner {_describe_end(status)}"
        if self._ready and not self._failure:
            return ev.RunnerEnded(self.computation, reason)
        return ev.RunnerFailed(self.computation, reason if self._failure else f"{reason} before it was ready")

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
            self._writable.set()

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
            if not data:
                return
            for kind, payload in self._reader.feed(data):
                try:
                    event = self._parse(kind, payload)
                except (struct.error, ValueError, OSError) as error:
                    # Code of a job may have got hold of the runner; the daemon does not trust it.
                    self._garbled = f"its runner sent what no runner sends: {error}"
                    return
                if event is not None:
                    self._emit(event)

    def _parse(self, kind: int, payload: bytes) -> ev.Event | None:
        """Return what a frame tells the engine, or None.

        Raises:
            struct.error, ValueError, OSError: no runner sends this.
        """
        computation = self.computation
        if kind == frames.ENDED:
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
                result = JobResult(job, attempt, outcome, code, detail, started_at, ended_at, body)
                results.append(ev.AttemptResult(result, spooled))
            return ev.AttemptsEnded(computation, results)
        elif kind == frames.STARTED:
            return ev.AttemptsStarted(
                computation, [JobStart(*start) for start in frames.unpack_starts(payload)]
            )
        elif kind == frames.SLOTS:
            return ev.SlotsGivenUp(computation, frames.COUNT.unpack(payload)[0])
        elif kind == frames.READY:
            self._ready = True
            return ev.RunnerReady(computation)
        elif kind == frames.FAILED:
            self._failure = payload.decode("utf-8", "replace")
        return None

    def _take_spooled(self, path: str) -> Spooled:
        """Accept a result file, which user code could have named: only a plain file of the spool folder will do."""
        status = os.lstat(path)
        if Path(path).parent != self._spool or not stat.S_ISREG(status.st_mode):
            raise ValueError(f"the runner names {path!r}, which is no file of its spool folder")
        return Spooled(path, status.st_size)

    async def _reap(self) -> int:
        """Wait for the process, kill it if it stays, and kill what it left behind; return its exit status."""
        process = self._process
        assert process is not None
        for _ in range(int(END_S / 0.01)):
            if process.poll() is not None:
                break
            await trio.sleep(0.01)
        else:
            process.kill()
        status = process.wait()
        if status != 0:
            _kill_marked(self._mark)
        return status


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
