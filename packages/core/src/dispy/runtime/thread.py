"""The engine's thread beside the program, shared by all clusters of the process.

It starts with the first cluster and ends with the last. Clusters of one process share it so that two of them use
one connection to a node, and a node found by one can serve the other.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

from dispy import config
from dispy.engine import effects as fx
from dispy.engine import events as ev
from dispy.engine.records import Computation, Job, Node, SourceFile
from dispy.errors import DispyError, PluginError
from dispy.hookspecs import JobEvent, NodeEvent
from dispy.logger import logger
from dispy.model import ComputationId, JobId, JobStatus, NodeId, NodeStatus
from dispy.plugins import PluginManager
from dispy.runtime.callbacks import CallbackThread
from dispy.runtime.driver import SchedulerDriver
from dispy.runtime.embedded import LOCAL_HOST
from dispy.runtime.finder import NodeFinder
from dispy.runtime.holding import ResultMemory
from dispy.runtime.resolver import Resolver
from dispy.runtime.trust import Trust, TrustStore
from dispy.runtime.waiting import EngineThread

if TYPE_CHECKING:
    from dispy.discovery import DiscoveryScope
    from dispy.nodes import NodePattern

T = TypeVar("T")

STOP_S = 5.0
"""How long the threads may take to end; links flush for 2 s, the embedded node has 3 s."""


LOOK_S = 1.0
"""How often it is looked whether the engine's thread still lives, while something is awaited from it."""


class Listener(Protocol):
    """A cluster, as the engine's thread sees it."""

    def jobs_changed(self, changes: Sequence[fx.JobChange]) -> None:
        """Some of its jobs have a new status."""

    def node_changed(self, node: Node, status: NodeStatus) -> None:
        """A node became usable, or was lost."""

    def closed(self) -> None:
        """It is closed at every node."""

    def job_logged(self, log: fx.TellLog) -> None:
        """One of its jobs has logged something."""


_reword: Callable[[str], str] | None = None


@contextmanager
def rewording(reword: Callable[[str], str]) -> Iterator[None]:
    """Let *reword* turn what is said to the user into the words of another program than one in Python."""
    global _reword
    before, _reword = _reword, reword
    try:
        yield
    finally:
        _reword = before


def tell_user(text: str) -> None:
    """Say something to the person at the terminal, at once; if there is none any more, to the log."""
    if _reword is not None:
        text = _reword(text)
    try:
        print(f"dispy: {text}", file=sys.stderr, flush=True)
    except (OSError, ValueError):  # closed, or the other end of a pipe is gone: no reason to stop the engine
        logger.warning("%s", text)


class Runtime:
    """Engine, links and callbacks of this process. Make it by `acquire`, give it back by `release`."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.users = 0
        """How many clusters use it; belongs to `acquire` and `release`."""
        self.plugins = PluginManager.load()
        self.trusts = TrustStore(self.plugins)
        self.policy = self.plugins.fault_policy(need_reentrant=False)
        memory = ResultMemory(config.result_memory_bytes())
        order = config.cluster_order()
        self.callbacks = CallbackThread()
        self.driver = SchedulerDriver(self.policy, self.plugins.transport, self, memory, order)
        self._listeners: dict[ComputationId, Listener] = {}
        self._finders: dict[ComputationId, NodeFinder] = {}
        self._nursery: trio.Nursery | None = None
        self._resolver = Resolver()
        self._jobs = itertools.count(1)
        self._failure: BaseException | None = None
        self._ready = threading.Event()
        self._thread = EngineThread(target=self._run, name="dispy-engine", daemon=True)
        self._thread.start()

    # ---- from any thread

    def add(
        self,
        computation: Computation,
        patterns: Sequence[NodePattern],
        node_port: int,
        listener: Listener,
        *,
        trust: Trust,
        local_hosts: Sequence[str] = (),
        scope: DiscoveryScope | None = None,
    ) -> None:
        """Take up a computation and start to look for its nodes.

        Args:
            trust: what is asked of nodes.
            local_hosts: addresses of this machine to connect from, where one fits; else the system chooses.
            scope: where to look for nodes that patterns mean; None: nowhere.

        Raises:
            DispyError: the engine's thread has ended.
        """
        finder = NodeFinder(
            self.driver,
            computation,
            patterns,
            node_port,
            tell_user,
            trust=trust,
            local_hosts=local_hosts,
            scope=scope,
            discoveries=self.plugins.discoveries,
        )

        def add() -> None:
            self._listeners[computation.id] = listener
            self._finders[computation.id] = finder
            self.driver.handle(ev.ComputationAdded(computation))
            assert self._nursery is not None
            self._nursery.start_soon(self._find_nodes, finder, computation.name)

        self._post(add)  # the first jobs may follow before it is done

    def submit(self, job: Job) -> None:
        """Hand a job over.

        Raises:
            DispyError: the engine's thread has ended.
        """
        try:
            self.driver.submit(job)
        except trio.RunFinishedError as error:
            raise self._ended() from error

    def post(self, function: Callable[[], None]) -> None:
        """Have *function* called soon in the engine's thread; if that has ended, nothing happens."""
        with contextlib.suppress(trio.RunFinishedError):
            self.driver.post(function)

    def require_transports(self, patterns: Sequence[NodePattern]) -> None:
        """Check that nodes can be reached as they are named; in the engine's thread.

        Raises:
            PluginNotInstalled: a transport is missing.
            PluginError: a transport cannot be used.
        """
        for pattern in patterns:
            scheme = pattern.target[0] if pattern.target else "tcp"
            if scheme == LOCAL_HOST:
                continue
            try:
                self.plugins.transport(scheme)
            except PluginError as error:
                if scheme == "tcp" or type(error) is not PluginError:
                    raise
                raise PluginError(
                    f"{error}; or did you mean host:port with a number, instead of {pattern.text!r}?"
                ) from error

    def next_job(self) -> JobId:
        """Return a number for a new job."""
        return JobId(next(self._jobs))

    def is_engine_thread(self) -> bool:
        """Tell whether the caller runs in the engine's thread, where nothing may wait for it."""
        return threading.current_thread() is self._thread

    def wait_ready(self) -> None:
        """Wait until the engine's thread is up.

        Raises:
            DispyError: it could not start, or has ended.
        """
        self._ready.wait()
        self._check_alive()

    @property
    def has_failed(self) -> bool:
        """True if the engine's thread has ended by a bug."""
        return self._failure is not None

    def _check_alive(self) -> None:
        if self._failure is not None or not self._thread.is_alive():
            raise self._ended()

    def _ended(self) -> DispyError:
        if self._failure is None:
            return DispyError(
                "the engine's thread has ended, as its last cluster was closed: make a new cluster"
            )
        return DispyError(
            f"the engine's thread has ended by an internal error, {self._failure!r}: make a new cluster"
        )

    def _post(self, function: Callable[[], None]) -> None:
        self.wait_ready()
        try:
            self.driver.post(function)
        except trio.RunFinishedError as error:
            raise self._ended() from error

    def call(self, function: Callable[[], T]) -> T:
        """Run *function* in the engine's thread and return what it returns; in that thread, at once.

        Raises:
            DispyError: the thread has ended.
        """
        if self.is_engine_thread():
            return function()
        answer: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def run() -> None:
            try:
                answer.put((function(), None))
            except Exception as error:
                answer.put((None, error))

        self._post(run)
        while True:
            try:
                result, failure = answer.get(timeout=LOOK_S)
                break
            except queue.Empty:
                self._check_alive()
        if failure is not None:
            raise failure
        return result  # type: ignore[return-value]

    def send_file(self, computation: ComputationId, node: NodeId, file: SourceFile) -> str:
        """Send a file to a node and wait until it is there, or tell why it is not.

        Raises:
            DispyError: the engine's thread has ended.
        """
        answer: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._post(lambda: self.driver.handle(ev.FileWanted(computation, node, file, answer)))
        while True:
            try:
                return answer.get(timeout=LOOK_S)
            except queue.Empty:
                self._check_alive()

    def finder(self, computation: ComputationId) -> NodeFinder:
        """Return what looks for the nodes of a computation that is not closed; in the engine's thread."""
        return self._finders[computation]

    def explain(self, computation: ComputationId) -> str:
        """Say what is known about the nodes of a computation."""

        def explain() -> str:
            finder = self._finders.get(computation)
            return finder.explain() if finder else "it is closed"

        return self.call(explain)

    def stop(self) -> None:
        """End the threads; bounded by STOP_S each. From a callback, or in the engine's thread, it does not wait."""
        self._ready.wait(STOP_S)  # what has not begun yet cannot be cancelled
        nursery = self._nursery
        if nursery is not None:
            try:
                self.driver.post(nursery.cancel_scope.cancel)
            except trio.RunFinishedError:
                pass  # it has ended already
        self._resolver.close()
        try:
            if not self.is_engine_thread():
                self._thread.join(STOP_S)
        finally:
            self.callbacks.close(0.0 if self.is_engine_thread() else STOP_S)

    # ---- the engine's thread

    def _run(self) -> None:
        reason = "the cluster was closed before the job had ended"
        try:
            trio.run(self._main, strict_exception_groups=True)
        except BaseException as error:
            self._failure = error
            reason = f"the engine's thread has ended: {error!r}"
            tell_user(f"internal error, all clusters of this process stop: {error!r}")
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            self._ready.set()
            self._settle_leftovers(reason)

    def _settle_leftovers(self, reason: str) -> None:
        """Let nobody wait for what will never come: the engine is gone, so what it still had is abandoned."""
        of_cluster: dict[ComputationId, list[fx.JobChange]] = {}
        for job in self.driver.take_leftovers():
            change = fx.JobChange(job, JobStatus.ABANDONED, job.node, reason=reason)
            of_cluster.setdefault(job.computation, []).append(change)
        for computation, listener in self._listeners.items():
            if computation in of_cluster:
                listener.jobs_changed(of_cluster[computation])
            listener.closed()
        self._listeners.clear()
        self._finders.clear()

    async def _find_nodes(self, finder: NodeFinder, name: str) -> None:
        """Run a finder; what it raises ends that search only."""
        try:
            await finder.run()
        except* Exception:
            logger.exception("a bug in dispy has ended the search for nodes for %r", name)
            tell_user(f"the search for nodes for {name!r} has ended by an internal error (see the log)")

    async def _main(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await self.driver.run(self._resolver, self._ready.set)

    def jobs_changed(self, changes: list[fx.JobChange]) -> None:
        """Pass news of jobs on to their clusters and to observing plugins (`driver.Application`)."""
        if logger.level <= logger.DEBUG:
            for change in changes:
                self._log_change(change)
        listeners = self._listeners
        if len(listeners) == 1:
            # The usual case, and the hot one: all changes are of the one cluster there is.
            next(iter(listeners.values())).jobs_changed(changes)
        else:
            of_cluster: dict[ComputationId, list[fx.JobChange]] = {}
            for change in changes:
                of_cluster.setdefault(change.job.computation, []).append(change)
            for computation, its_changes in of_cluster.items():
                if computation in listeners:
                    listeners[computation].jobs_changed(its_changes)
        if self.plugins.has_job_observers:
            self.plugins.on_jobs([self._describe(change) for change in changes])

    def _log_change(self, change: fx.JobChange) -> None:
        event = self._describe(change)
        logger.debug(
            "job %s of %s is %s%s%s",
            event.job,
            event.computation,
            event.status.name.lower(),
            f" at {event.node}" if event.node else "",
            f": {event.reason}" if event.reason else "",
        )

    def _describe(self, change: fx.JobChange) -> JobEvent:
        computation = self.driver.engine.computations.get(change.job.computation)
        return JobEvent(
            job=change.job.id,
            computation=computation.name if computation else "",
            status=change.status,
            node=change.node.name if change.node else "",
            reason=change.reason,
        )

    def node_changed(self, node: Node, status: NodeStatus, computation: Computation) -> None:
        """Pass news of a node on (`driver.Application`)."""
        logger.debug(
            "node %s (%s) is %s for %s", node.name, node.peer_host, status.name.lower(), computation.name
        )
        listener = self._listeners.get(computation.id)
        if listener is not None:
            listener.node_changed(node, status)
        self.plugins.on_nodes([NodeEvent(node.name, node.peer_host, status, computation.name)])

    def closed(self, computation: Computation) -> None:
        """Let go of a computation (`driver.Application`)."""
        self._finders.pop(computation.id, None)
        listener = self._listeners.pop(computation.id, None)
        if listener is not None:
            listener.closed()

    def file_sent(self, handle: queue.SimpleQueue[str], reason: str) -> None:
        """Let `send_file` return (`driver.Application`)."""
        handle.put(reason)

    def output_came(self, piece: fx.TellOutput) -> None:
        """Pass output on to who looks at it (`driver.Application`)."""
        piece.viewer.take(piece)

    def job_logged(self, log: fx.TellLog) -> None:
        """Pass a record of logging on (`driver.Application`)."""
        listener = self._listeners.get(log.job.computation)
        if listener is not None:
            listener.job_logged(log)

    def report(self, text: str, computation: Computation | None) -> None:
        """Tell the user (`driver.Application`)."""
        tell_user(text)


class _Holder:
    """The one runtime of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.runtime: Runtime | None = None

    def forget(self) -> None:
        """In a forked child: the threads are not there, so neither is the runtime."""
        self.__init__()  # type: ignore[misc]


_holder = _Holder()
os.register_at_fork(after_in_child=_holder.forget)


def acquire() -> Runtime:
    """Return the runtime of this process, starting it for the first cluster, and anew after a failure."""
    with _holder.lock:
        runtime = _holder.runtime
        if runtime is None or runtime.has_failed:
            runtime = _holder.runtime = Runtime()
        runtime.users += 1
        return runtime


def current() -> Runtime | None:
    """Return the runtime of this process, if there is one."""
    return _holder.runtime


def tell(event: ev.Event) -> None:
    """Have the engine of this process handle an event soon; if there is none any more, nothing happens."""
    runtime = current()
    if runtime is not None:
        runtime.post(lambda: runtime.driver.handle(event))


def release(runtime: Runtime) -> None:
    """Give the runtime back; the last user ends it. One that was made before a fork is left alone."""
    with _holder.lock:
        runtime.users -= 1
        if runtime.users or runtime.pid != os.getpid():
            return
        if _holder.runtime is runtime:
            _holder.runtime = None
    runtime.stop()
