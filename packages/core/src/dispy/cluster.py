"""The blocking API: a cluster is the handle on one computation, made, used and closed from any thread."""

from __future__ import annotations

import atexit
import contextlib
import inspect
import itertools
import os
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dispy import config
from dispy.allotment import Allotments
from dispy.demands import LEAST_LOADED, PLAIN, Demands, change_demands
from dispy.errors import ClusterClosed, DispyError, UsageError
from dispy.job import DispyJob
from dispy.limits import change_limits
from dispy.logger import logger
from dispy.management import NodeManagement
from dispy.model import (
    AccessRole,
    ComputationId,
    Isolation,
    JobId,
    JobStatus,
    NodeStatus,
    Openness,
    StartMethod,
)
from dispy.options import Submitting
from dispy.packing.preparation import TIMEOUT_S, Preparation, checked_timeout, make_preparation
from dispy.places import shared_folder
from dispy.runtime.waiting import check_may_wait
from dispy.status import ClusterStatus, DispyNode, format_status

if TYPE_CHECKING:
    from dispy.discovery import DiscoveryScope
    from dispy.engine.effects import JobChange, TellLog
    from dispy.engine.records import Computation, Node
    from dispy.interfaces import Allocator
    from dispy.nodes import NodePattern
    from dispy.packing.sharing import SharedRef
    from dispy.wire.messages import JobLimits

CLOSE_S = 12.0
"""Longest time that closing may take after the last job: the engine gives nodes 10 s."""

STATUSES = {
    JobStatus.FINISHED,
    JobStatus.TERMINATED,
    JobStatus.CANCELLED,
    JobStatus.ABANDONED,
}
"""With these a job is over."""

OPEN_WARNING = (
    "by secret=dispy.OPEN they are neither encrypted nor authenticated, so that whoever can reach them can read and "
    "change code, arguments and results; use it only on a network where you trust everybody"
)

JobCallback = Callable[[DispyJob], object]
StatusCallback = Callable[[int, DispyNode | None, DispyJob | None], object]
OutputCallback = Callable[[DispyJob, str, str], object]


class JobCluster(Submitting, NodeManagement):
    """Distributes one computation to nodes and runs its jobs there.

    Args:
        computation: a function, or the path or name (on PATH) of a program.
        nodes: names, addresses, ``host:port``, patterns with ``*``, networks (``10.1.0.0/16``), `NodeAllocate` objects,
            or tuples and dicts of their arguments; by default every node that is found, or else one that is started
            on this machine (``["local"]`` asks for that one).
        depends: functions, classes, modules, instances (of which the class is sent) and paths of files that the
            computation needs.
        job_status: called with each job when it has ended, and when it has sent an intermediate result, which is
            ``job.result`` then, in a thread for callbacks.
        cluster_status: called with (status, node, job) at each change.
        host: name or address of this machine, or several, that connections come from: to a node on this machine
            from one of loopback, to others from another, as far as one of the same kind (IPv4, IPv6) is given;
            else the system chooses. What is not valid is left out with a warning.
        dispy_port: base port; nodes listen on the one above.
        ip_addr: older name of *host*.
        loglevel: level of `dispy.logger`, for the whole process.
        callback: older name of *job_status*.
        reentrant: jobs of a node that is lost are run again elsewhere, rather than abandoned.
        placement: which node gets the next job: "least-loaded", "spread" (the one with the fewest jobs), "pack" (as few
            nodes as possible), or the name of an allocator that a plugin brings.
        isolation: ``"process"`` runs each job in a fresh process; ``"worker"`` uses processes again, for many
            tiny jobs that need no protection from each other.
        start_method: ``"fork"``: processes of jobs have what *setup* has left in memory, at nodes that can fork;
            ``"spawn"``: each is a fresh interpreter, which is sent what can be pickled of that.
        port: older name of *dispy_port*.
        node_port: port of the nodes, where it is not the one above *dispy_port*.
        ipv4_udp_multicast: nodes are looked for by IPv4 multicast, rather than by broadcast.
        ping_interval: how often nodes are looked for at the latest, in seconds from 1 to 1000; by default less and
            less often, down to once a minute.
        secret: key, or passphrase, that nodes must have too. By default it is the key in the user's
            configuration folder, which is made when it is first needed (``dispy key``). ``dispy.OPEN`` makes
            connections that are neither authenticated nor encrypted, with nodes that were started with ``--open``.
        secret_file: path of a file that holds it.
        certfile: path of a file (PEM) with the certificate to show, and with its key unless *keyfile* is given.
        keyfile: path of a file (PEM) with the key of that certificate.
        cafile: path of a file (PEM) with the authorities whose certificates nodes must have; without it nodes must
            have the very certificate of *certfile*.
        results: ``"any"`` takes whatever can be pickled, and so lets a node run code here; ``"safe"`` unpickles
            nothing that comes from nodes, and takes numbers, text, bytes, lists, tuples, sets, dicts, dates and
            times, and NumPy arrays. It makes no difference to programs.
        setup: function that each node calls before its first job, with the ``setup_args`` of `NodeAllocate` as
            positional arguments; it returns 0 if the node can be used. Jobs see the global variables that it sets.
        cleanup: function that each node calls with the same arguments after its last job, before it removes the
            files of the computation; True: it removes them only.
            False: the files stay, for a later cluster with the same *dest_path*.
        setup_timeout: so long may *setup* take, in seconds; afterwards the node is not used.
        timeout, memory, cpu_time, processes: limits of each job, as `options` has them, which can set others.
        cpus, resources, exclusive: what each job has for itself at its node, as `options` has them.
        on_output: called with (job, ``"stdout"`` or ``"stderr"``, text) with all that jobs print, as it comes and
            before *job_status* is called for their end, in the thread for callbacks.
        forward_logs: records that jobs make by `logging` are handled by the loggers of the same name here, in the
            thread for callbacks, with attributes ``dispy_job`` and ``dispy_node``. True: those that the loggers of
            the job let through; a level: those from this level on.
        dest_path: folder of the jobs at nodes, a relative path below the node's folder for this user; clusters that
            name the same one share it. By default each cluster has a folder of its own.
        max_file_size: largest file that is sent to nodes or taken from jobs: bytes, or text such as ``"10m"``; 0 for
            no limit. Default: ``dispy.config.MaxFileSize``.

    Raises:
        UsageError: something is wrong with an argument; its sub-classes tell what.
        PluginNotInstalled: what was asked for needs a plugin that is not installed.
    """

    def __init__(
        self,
        computation: Callable[..., Any] | str | os.PathLike[str],
        nodes: Any = None,
        depends: Sequence[Any] = (),
        job_status: JobCallback | None = None,
        cluster_status: StatusCallback | None = None,
        host: str | Sequence[str] | None = None,
        dispy_port: int | None = None,
        *,
        ip_addr: str | Sequence[str] | None = None,
        loglevel: int | None = None,
        callback: JobCallback | None = None,
        reentrant: bool = False,
        placement: str = LEAST_LOADED,
        isolation: str = "process",
        start_method: str = "fork",
        port: int | None = None,
        node_port: int | None = None,
        ipv4_udp_multicast: bool = False,
        ping_interval: float | None = None,
        secret: str | Openness | None = None,
        secret_file: str | os.PathLike[str] | None = None,
        certfile: str | os.PathLike[str] | None = None,
        keyfile: str | os.PathLike[str] | None = None,
        cafile: str | os.PathLike[str] | None = None,
        results: str = "any",
        setup: Callable[..., Any] | None = None,
        cleanup: bool | Callable[..., Any] = True,
        setup_timeout: float = TIMEOUT_S,
        timeout: float | None = None,
        memory: int | str | None = None,
        cpu_time: float | None = None,
        processes: int | None = None,
        cpus: int = 1,
        resources: Mapping[str, int] | None = None,
        exclusive: bool = False,
        on_output: OutputCallback | None = None,
        forward_logs: bool | int = False,
        dest_path: str | os.PathLike[str] | None = None,
        max_file_size: int | str | None = None,
    ) -> None:
        self._closed = True  # until everything is there: __init__ may raise
        if loglevel is not None:
            logger.setLevel(loglevel)
        host = _renamed("ip_addr", ip_addr, "host", host)
        dispy_port = _renamed("port", port, "dispy_port", dispy_port)
        job_status = _renamed("callback", callback, "job_status", job_status)
        if dispy_port is not None:
            config.set_port(dispy_port)
        self.job_status = _checked_callback("job_status", job_status, 1)
        self.cluster_status = _checked_callback("cluster_status", cluster_status, 3)
        on_output = _checked_callback("on_output", on_output, 3)
        if not isinstance(reentrant, bool):
            logger.warning("reentrant=%r is neither True nor False: taken as False", reentrant)
            reentrant = False
        self._safe_results = _is_safe(results)
        self._limits = change_limits(
            None, timeout=timeout, memory=memory, cpu_time=cpu_time, processes=processes
        )
        demands = change_demands(PLAIN, cpus=cpus, resources=resources, exclusive=exclusive)
        self._demands = PLAIN if demands == PLAIN else demands
        preparation = make_preparation(setup, cleanup)
        self._setup_timeout_s = checked_timeout(setup_timeout) if preparation.functions else 0.0
        self._keep_files = cleanup is False
        self._dest_path = "" if dest_path is None else shared_folder(dest_path)
        self._max_file_bytes = config.max_file_bytes(max_file_size)
        self._packed = _pack(
            computation,
            depends,
            preparation,
            safe_results=self._safe_results,
            max_file_bytes=self._max_file_bytes,
        )
        self.name = self._packed.name
        self.start_time = time.time()
        self.end_time = self.start_time
        self._node_port = (
            config.node_port() if node_port is None else config.checked_port(node_port, "node_port")
        )
        self.ping_interval = _checked_ping_interval(ping_interval)
        groups = config.multicast_groups()
        config.msg_timeout_s()  # else it would be complained about at each node
        chosen_isolation = _checked_isolation(isolation)
        self._start_method = _checked_start_method(start_method)

        # Imported late, so that `import dispy` imports no trio.
        from dispy.engine.records import Job, LimitedJob
        from dispy.live import OutputCalls
        from dispy.logs import LogCalls, checked_level
        from dispy.nodes import parse_nodes
        from dispy.runtime import thread
        from dispy.runtime.releasing import make_sharer
        from dispy.runtime.resolver import own_addresses
        from dispy.runtime.trust import make_request

        self._log_level = checked_level(forward_logs)
        self._job_record = Job
        self._limited_record = LimitedJob
        asked = make_request(
            AccessRole.ADMIN,
            secret=secret,
            secret_file=secret_file,
            certfile=certfile,
            keyfile=keyfile,
            cafile=cafile,
        )

        self._hosts = own_addresses(host) if host else []
        patterns = self._patterns = parse_nodes(nodes, self._node_port)
        self._allotments = Allotments(
            self._packed, patterns, max_file_bytes=self._max_file_bytes, is_shared=bool(self._dest_path)
        )
        self._ids = itertools.count(1)
        self._lock = threading.Condition()
        self._pending = 0
        self._calling = 0
        self._is_closed_everywhere = threading.Event()
        self._nodes: dict[str, DispyNode] = {}
        self._output = None if on_output is None else OutputCalls(on_output, self._call_soon, thread.tell)
        self._logs = LogCalls(self._call_soon)
        self._pid = os.getpid()
        self._runtime = thread.acquire()
        try:
            if reentrant:
                self._runtime.call(lambda: self._runtime.plugins.fault_policy(need_reentrant=True))
            self._runtime.call(lambda: self._runtime.require_transports(patterns))
            allocator = self._find_allocator(placement)
            self._trust = self._runtime.call(lambda: self._runtime.trusts.get(asked))
            self._check_trust(patterns)
            self._computation = self._make_computation(patterns, reentrant, chosen_isolation)
            self._computation.allocator = allocator
            self._sharer = make_sharer(self._runtime, self._computation.id)
            self._closed = False  # from here on, callbacks may use it
            self._runtime.add(
                self._computation,
                patterns,
                self._node_port,
                self,
                trust=self._trust,
                local_hosts=self._hosts,
                scope=self._make_scope(groups, multicast=bool(ipv4_udp_multicast)),
            )
        except BaseException:
            self._closed = True
            thread.release(self._runtime)
            raise
        _open_clusters.add(self)

    # ---- jobs

    def _submit_pinned(
        self,
        job_id: Any,
        node: DispyNode | str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        limits: JobLimits | None,
        demands: Demands,
    ) -> DispyJob | None:
        self._check_open()
        found = self._runtime.call(lambda: self._find_node(node))
        if found is None:
            logger.warning("node %s is not used by this cluster: job not submitted", node)
            return None
        return self._submit(job_id, found, args, kwargs, limits, demands)

    def _submit(
        self,
        job_id: Any,
        node: Node | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        limits: JobLimits | None,
        demands: Demands,
    ) -> DispyJob:
        self._check_open()  # after a fork, the lock below may be held for ever
        parts = None
        if "dispy_job_depends" in kwargs:
            depends = kwargs.pop("dispy_job_depends")
            if depends:
                parts = self._packed.pack_parts(depends, max_file_bytes=self._max_file_bytes)
        body, needs = self._packed.pack_job(args, kwargs, self._sharer, parts)
        runtime = self._runtime
        uid = runtime.next_job()
        number = next(self._ids)
        job = DispyJob(
            uid,
            job_id or number,
            text_output=self._packed.is_function,
            safe_results=self._safe_results or not self._packed.is_function,
        )
        make_record: Callable[..., Any] = self._job_record
        if limits is not None or demands is not PLAIN:
            make_record = partial(
                self._limited_record, limits=limits, priority=demands.priority, demand=demands.demand
            )
        record = make_record(
            uid,
            self._computation.id,
            body,
            pinned=None if node is None else node.id,
            handle=job,
            carries=None if parts is None else parts.carries,
            needs=needs,
        )
        with self._lock:  # the job is on its way before the cluster can be closed
            self._check_open()
            try:
                self._pending += 1
                if self.cluster_status is not None:
                    self._call_soon(self.cluster_status, DispyJob.Created, None, job)
                runtime.submit(record)
            except DispyError:
                self._pending -= not job._done
                raise
            except BaseException:  # Ctrl-C at any point above
                runtime.post(lambda: self._forget_unless_taken(job))
                raise
        return job

    def _forget_unless_taken(self, job: DispyJob) -> None:
        """Count a job no longer that never reached the engine; in the engine's thread."""
        if JobId(job._uid) not in self._runtime.driver.engine.jobs and not job._done:
            self._forget_pending(1)

    def _forget_pending(self, count: int) -> None:
        with self._lock:
            self._pending -= count
            if not self._pending:
                self.end_time = time.time()
                self._lock.notify_all()

    def cancel(self, job: DispyJob) -> int:
        """End a job: a queued one is removed, a running one is interrupted.

        Returns:
            0, or -1 with a warning if the job has ended, is being cancelled, or is not of this cluster.
        """
        self._check_open()

        def cancel() -> int:
            record = self._runtime.driver.engine.jobs.get(JobId(job._uid))
            if record is None or record.handle is not job or record.computation != self._computation.id:
                return -1
            if job._done or job._status is JobStatus.CANCELLED:
                return -1
            job._status = JobStatus.CANCELLED
            self._runtime.driver.cancel([record.id])
            return 0

        done = self._runtime.call(cancel)
        if done < 0:
            logger.warning("job %s cannot be cancelled: it has ended, or is not of this cluster", job.id)
        return done

    def put(self, value: Any) -> SharedRef:
        """Keep an object that many jobs are to read: each node gets it once, with its first job that needs it.

        Passed as an argument of this cluster's jobs, or anywhere inside one, what this returns arrives as the object
        itself, as it was when it was put. NumPy arrays in it are not copied at the node and cannot be written to there.

        Raises:
            NotPicklable: it cannot be sent; the message names what in it.
            UsageError: the computation is a program.
            ClusterClosed: the cluster is closed.
        """
        self._check_open()
        ref: SharedRef = self._packed.put(value, self._sharer)
        return ref

    def send_file(self, path: str | os.PathLike[str], node: DispyNode | str, relay: bool = False) -> int:
        """Send a file to a node now; it waits until jobs there find it, those that run too.

        It lies in their folder like a file of *depends*: under its path relative to the client's working directory,
        or at the top under its base name if it is not below that.

        Args:
            path: the file.
            node: which node.
            relay: without effect, as in the original: there is no scheduler in between.

        Returns:
            0, or -1 with a warning if the cluster does not use the node, or the node could not take the file.

        Raises:
            UsageError: there is no such file, it cannot be read or is too large; or this is called where nothing may
                wait.
            ClusterClosed: the cluster is closed.
        """
        from dispy.packing.files import BadName, Files

        self._check_open()
        check_may_wait("cluster.send_file()")
        try:
            file = Files(max_bytes=self._max_file_bytes).add(os.fspath(path))
        except BadName as error:
            logger.warning("%s", error)
            return -1
        found = self._runtime.call(lambda: self._find_node(node))
        if found is None:
            logger.warning("node %s is not used by this cluster: file %s not sent", node, path)
            return -1
        reason = self._runtime.send_file(self._computation.id, found.id, file)
        if reason:
            logger.warning("file %s was not sent to node %s: %s", path, found.name, reason)
            return -1
        return 0

    # ---- waiting and closing

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all jobs submitted so far are done and their callbacks have run.

        Called from a callback, it does not wait for callbacks.

        Returns:
            False if *timeout* (seconds) passed first.

        Raises:
            ClusterClosed: it was made in another process, before a fork: nothing is heard of its jobs here.
            UsageError: called where nothing may wait: in `NodeAllocate.allocate`, or in a plugin's hook.
        """
        self._check_process()
        check_may_wait("cluster.wait()")
        with self._lock:
            return self._wait_idle(timeout)

    def _wait_idle(self, timeout: float | None) -> bool:
        """Do as `wait`, with the lock held, which is given up meanwhile."""
        in_callback = self._runtime.callbacks.is_current()
        return self._lock.wait_for(lambda: not self._pending and (in_callback or not self._calling), timeout)

    def __call__(self) -> None:
        """Wait for all jobs."""
        self.wait()

    def close(self, timeout: float | None = None, terminate: bool = False) -> bool | None:
        """Wait for the jobs, then clean up at the nodes and let go of them.

        Returns:
            True; False if *timeout* (seconds) passed and *terminate* is false, and then the cluster stays usable;
            None if it was closed before. With *terminate*, jobs not done by then are ended and have a status.

        Raises:
            UsageError: as `wait`.
        """
        if self._closed or self._pid != os.getpid():
            return None
        check_may_wait("cluster.close()")
        with self._lock:  # no job can be submitted between the end of the wait and the end of the cluster
            if not self._wait_idle(timeout) and not terminate:
                return False
            if self._closed:
                return None
            self._closed = True
        _open_clusters.discard(self)
        self._sharer.close()
        self._end(terminate)
        return True

    def shutdown(self) -> None:
        """Close the cluster; with the last one, the threads of dispy end too."""
        self.close()

    def _end(self, terminate: bool) -> None:
        from dispy.engine.events import ComputationClosing
        from dispy.runtime import thread

        runtime = self._runtime
        try:
            runtime.call(
                lambda: runtime.driver.handle(ComputationClosing(self._computation.id, terminate=terminate))
            )
            self._is_closed_everywhere.wait(CLOSE_S)
            self.wait(CLOSE_S)
        except DispyError as error:
            logger.warning("the cluster for %r could not be closed at its nodes: %s", self.name, error)
        finally:
            thread.release(runtime)

    def __enter__(self) -> JobCluster:
        """Return the cluster."""
        return self

    def __exit__(self, error_type: object, error: BaseException | None, traceback: object) -> None:
        """Close the cluster; after Ctrl-C without waiting for its jobs."""
        if isinstance(error, KeyboardInterrupt):
            self.close(timeout=0, terminate=True)
        else:
            self.close()

    # ---- state

    def status(self) -> ClusterStatus:
        """Return the nodes in use and the number of jobs that are not done."""
        if not self._closed:
            self._runtime.call(self._refresh_nodes)
        return ClusterStatus(list(self._nodes.values()) if not self._closed else [], self._pending)

    def print_status(self, wall_time: float | None = None) -> None:
        """Print a table of nodes, jobs and times."""
        status = self.status()
        elapsed_s = time.time() - self.start_time if wall_time is None else wall_time
        print(format_status(status, elapsed_s))

    stats = print_status

    def explain(self, job: DispyJob | None = None) -> str:
        """Tell where a job is and what it waits for; without *job*, which nodes are used, and why others are not."""
        self._check_open()
        nodes = self._runtime.explain(self._computation.id)
        if job is None:
            return nodes

        def explain() -> str:
            from dispy.runtime.explaining import explain_job

            record = self._runtime.driver.engine.jobs.get(JobId(job._uid))
            if record is not None and record.handle is job and record.computation == self._computation.id:
                waits = record.node is None
                return explain_job(record, self._computation) + (f"\n{nodes}" if waits else "")
            if not job._done:
                return "it is not known to this cluster"
            at = f" at {job.ip_addr}" if job.ip_addr else ""
            return f"it has ended{at} as {job._status.name.lower()}" + (f": {job.error}" if job.error else "")

        return f"job {job.id}: {self._runtime.call(explain)}"

    # ---- news from the engine's thread (runtime.thread.Listener)

    def jobs_changed(self, changes: Sequence[JobChange]) -> None:
        """Take new statuses of jobs."""
        done = 0
        tell_status, tell_end = self.cluster_status, self.job_status
        for change in changes:
            job: DispyJob = change.job.handle
            status = change.status
            if status in STATUSES:
                if job._status is not JobStatus.ABANDONED:
                    done += 1
                job._settle(change)
                if self._output is not None:
                    self._output.ended(job, change.result)
                if tell_end is not None and status is not JobStatus.ABANDONED:
                    self._call_soon(tell_end, job)
            elif status is JobStatus.PROVISIONAL_RESULT:
                self._take_partial(change)
                continue
            elif job._status is not JobStatus.CANCELLED:
                job._start(change)
                if self._output is not None and status is JobStatus.RUNNING:
                    self._output.started(job)
            if tell_status is not None:
                self._call_soon(tell_status, int(status), self._node_of(change.node), job)
        if done:
            self._forget_pending(done)

    def _take_partial(self, change: JobChange) -> None:
        """Take an intermediate result; callbacks see the job as it is now, whatever happens before they are called."""
        job: DispyJob = change.job.handle
        job._add_partial(change.partial)
        if self.job_status is not None:
            self._call_soon(job._call_with_partial, change.partial, self.job_status, job)
        if self.cluster_status is not None:
            told = (int(change.status), self._node_of(change.node), job)
            self._call_soon(job._call_with_partial, change.partial, self.cluster_status, *told)

    def node_changed(self, node: Node, status: NodeStatus) -> None:
        """Take news of a node."""
        shown = self._node_of(node)
        with self._lock:
            if status is NodeStatus.CLOSED:
                self._nodes.pop(node.id, None)
            self._lock.notify_all()
        if self.cluster_status is not None:
            self._call_soon(self.cluster_status, int(status), shown, None)

    def job_logged(self, log: TellLog) -> None:
        """Take a record that a job has logged."""
        if self._log_level >= 0:
            self._logs.take(log)

    def closed(self) -> None:
        """Take the news that the computation is closed everywhere."""
        self._is_closed_everywhere.set()

    # ---- the rest

    def _call_soon(self, function: Callable[..., object], *args: Any) -> None:
        with self._lock:
            self._calling += 1

        def call() -> None:
            try:
                function(*args)
            except BaseException:  # told before `wait` returns, which counts on the callback being over
                logger.exception("%s failed", getattr(function, "__name__", "a callback"))
            finally:
                with self._lock:
                    self._calling -= 1
                    if not self._calling:
                        self._lock.notify_all()

        self._runtime.callbacks.call_soon(call)

    def _check_open(self) -> None:
        if self._closed:
            raise ClusterClosed(f"the cluster for {self.name!r} is closed: make a new one")
        self._check_process()

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise ClusterClosed(
                f"the cluster for {self.name!r} was made in another process, before a fork: make one here"
            )

    def _check_trust(self, patterns: Sequence[NodePattern]) -> None:
        """Find out now, rather than at the first node, what is wrong with keys and certificates.

        The default key is not looked for as long as only this machine may be used.
        """
        if self._trust.is_explicit or any(pattern.needs_trust for pattern in patterns):
            self._runtime.call(self._trust.require)
        if self._trust.is_explicit:
            self._trust.check_role(AccessRole.SUBMIT)
        if self._trust.is_open and any(pattern.target is None or pattern.needs_trust for pattern in patterns):
            from dispy.runtime.thread import tell_user

            tell_user(f"THE CONNECTIONS of {self.name!r} ARE OPEN: {OPEN_WARNING}")

    def _make_scope(self, groups: tuple[str, str], *, multicast: bool) -> DiscoveryScope:
        """Tell where to look for nodes, if not each of them is named (A20)."""
        from dispy.discovery import DiscoveryScope

        return DiscoveryScope(
            keys=self._trust.discovery_keys,
            node_ports=(self._node_port,),
            client_port=config.client_port(),
            hosts=tuple(self._hosts),
            multicast=multicast,
            ipv4_group=groups[0],
            ipv6_group=groups[1],
            ping_interval_s=self.ping_interval,
        )

    def _make_computation(self, patterns: Any, reentrant: bool, isolation: Isolation) -> Computation:
        from dispy.engine.records import Computation

        return Computation(
            id=ComputationId(uuid.uuid4().hex),
            name=self._packed.name,
            executor=self._packed.executor,
            isolation=isolation,
            reentrant=reentrant,
            accepts=lambda node: self._choose(patterns, node),
            code_for=self._packed.for_python,
            files_for=self._allotments.files_for,
            observed=self.cluster_status is not None or self._runtime.plugins.has_job_observers,
            arguments_for=self._allotments.arguments_for,
            setup_timeout_s=self._setup_timeout_s,
            live=self._output is not None,
            log_level=self._log_level,
            dest_path=self._dest_path,
            keep_files=self._keep_files,
            max_file_bytes=self._max_file_bytes,
            start_method=self._start_method,
            # Files replace those that are there, so that they could bring code as pickles do.
            folder="" if self._safe_results else _working_directory(),
        )

    def _find_allocator(self, placement: object) -> Allocator | None:
        if placement == LEAST_LOADED:
            return None
        if not isinstance(placement, str):
            raise UsageError(
                f"placement={placement!r} is not the name of one: give {LEAST_LOADED!r}, 'spread' or 'pack'"
            )
        return self._runtime.call(lambda: self._runtime.plugins.allocator(placement))

    def _choose(self, patterns: Sequence[NodePattern], node: Node) -> int:
        """Tell how many CPUs of *node* to use, and remember what else it gets."""
        from dispy.nodes import choose

        if not self._trusts(node):
            return 0
        pattern, cpus = choose(patterns, self, node)
        if pattern is not None:
            self._allotments.take(node, pattern)
        return cpus

    def _trusts(self, node: Node) -> bool:
        return not node.realms or self._trust.realm in node.realms

    def _find_node(self, node: DispyNode | str) -> Node | None:
        """Find a node that this cluster uses by object, name or address; in the engine's thread."""
        wanted = node.ip_addr if isinstance(node, DispyNode) else node
        for placement in self._computation.placements.values():
            if placement.is_usable and placement.node.is_known_as(wanted):
                return placement.node
        return None

    def _node_of(self, node: Node | None) -> DispyNode | None:
        if node is None:
            return None
        placement = self._computation.placements.get(node.id)
        shown = self._nodes.get(node.id)
        if shown is None:
            shown = DispyNode(node.peer_host, node.name)
            if placement is not None and placement.is_usable:
                self._nodes[node.id] = shown  # news of jobs of a lost node must not bring it back
        shown._update(node, placement)
        return shown

    def _refresh_nodes(self) -> None:
        self._runtime.driver.count_bytes()
        for placement in self._computation.placements.values():
            if placement.is_usable:
                self._node_of(placement.node)


def _renamed(old: str, old_value: Any, new: str, value: Any) -> Any:
    """Accept a parameter under its older name; the newer one wins if both are given."""
    if old_value is None:
        return value
    warnings.warn(f"parameter {old!r} is now called {new!r}", DeprecationWarning, stacklevel=3)
    return old_value if value is None else value


def _checked_callback(
    name: str, function: Callable[..., Any] | None, count: int
) -> Callable[..., Any] | None:
    """Check that a callback can be called with *count* arguments (A30, A32)."""
    if function is None:
        return None
    if not callable(function):
        raise UsageError(f"{name}={function!r} is not callable: give a function of {count} argument(s)")
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError as error:
        raise UsageError(
            f"{name} must take {count} argument(s), but {function!r} does not: {error}"
        ) from error
    except ValueError:
        pass  # a built-in that does not tell its parameters
    return function


def _checked_ping_interval(seconds: float | None) -> float | None:
    """Check A43."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 1 <= seconds <= 1000:
        raise UsageError(f"ping_interval must be a number of seconds from 1 to 1000, not {seconds!r}")
    return float(seconds)


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed: files that jobs send are refused
        return ""


def _pack(computation: Any, depends: Sequence[Any], preparation: Preparation, **options: Any) -> Any:
    from dispy.packing.bundle import pack_computation

    return pack_computation(computation, depends, preparation=preparation, **options)


def _is_safe(results: str) -> bool:
    if results not in ("any", "safe"):
        raise UsageError(f"results must be 'any' or 'safe', not {results!r}")
    return results == "safe"


def _checked_isolation(isolation: str) -> Isolation:
    try:
        return Isolation(isolation)
    except ValueError as error:
        known = " or ".join(repr(str(one)) for one in Isolation)
        raise UsageError(f"isolation must be {known}, not {isolation!r}") from error


def _checked_start_method(start_method: str) -> StartMethod:
    try:
        return StartMethod(start_method)
    except ValueError as error:
        known = " or ".join(repr(str(one)) for one in StartMethod)
        raise UsageError(f"start_method must be {known}, not {start_method!r}") from error


_open_clusters: set[JobCluster] = set()


def _finish_at_exit() -> None:
    """Wait for the jobs of a program that ends without waiting, then close its clusters (A74).

    A program that was stopped by Ctrl-C does not want to wait.
    """
    interrupted = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
    clusters = [cluster for cluster in list(_open_clusters) if cluster._pid == os.getpid()]
    try:
        for cluster in clusters:
            if not interrupted and not cluster.wait(3.0):
                print(
                    f"dispy: waiting for {cluster._pending} job(s) of {cluster.name!r}; Ctrl-C ends them",
                    file=sys.stderr,
                )
                cluster.wait()
            cluster.close(timeout=0 if interrupted else None, terminate=interrupted)
    except KeyboardInterrupt:
        _end_by_interrupt(clusters)


def _end_by_interrupt(clusters: list[JobCluster]) -> None:
    """End what still runs, and then this process as one that Ctrl-C has ended; a second Ctrl-C does so at once."""
    import signal

    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for cluster in clusters:
        if cluster._pending:
            print(
                f"dispy: interrupted: ending {cluster._pending} job(s) of {cluster.name!r}", file=sys.stderr
            )
        cluster.close(timeout=0, terminate=True)
    _die_of_interrupt()


def _die_of_interrupt() -> None:
    """End this process as SIGINT does: an exit handler cannot set the exit status, and a shell must see it."""
    import signal

    sys.stdout.flush()
    sys.stderr.flush()
    signal.raise_signal(signal.SIGINT)


atexit.register(_finish_at_exit)
