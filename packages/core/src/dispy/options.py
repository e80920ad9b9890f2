"""Calls with options: what is not an argument of the user's function has a place of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dispy.demands import PLAIN, Demands, change_demands
from dispy.limits import UNSET, Unset, change_limits

if TYPE_CHECKING:
    from dispy.engine.records import Node
    from dispy.job import DispyJob
    from dispy.status import DispyNode
    from dispy.wire.messages import JobLimits


class Submitting:
    """The ways to submit a job, for a cluster and for a `ClusterView` of it alike."""

    _limits: JobLimits | None = None
    """What each job may use."""
    _demands: Demands = PLAIN
    """What each job asks for."""

    def submit(self, *args: Any, **kwargs: Any) -> DispyJob:
        """Schedule one call of the computation with these arguments, and return its job at once.

        Arguments of a program become strings. The keyword argument ``dispy_job_depends`` is not one of them but a
        list like *depends* of the cluster: what it names is there for this job only. Files in it of more than 64 KB
        in all must not change before the job has started.

        Raises:
            NotPicklable: an argument cannot be sent; the message names it.
            UsageError: something in ``dispy_job_depends`` cannot be sent.
            ClusterClosed: the cluster is closed.
        """
        return self._submit(None, None, args, kwargs, self._limits, self._demands)

    def submit_job_id(self, job_id: Any, *args: Any, **kwargs: Any) -> DispyJob:
        """Do as `submit`, with *job_id* as ``job.id`` (unless it is falsy)."""
        return self._submit(job_id, None, args, kwargs, self._limits, self._demands)

    def submit_node(self, node: DispyNode | str, *args: Any, **kwargs: Any) -> DispyJob | None:
        """Do as `submit`, for this node only; return None with a warning if the cluster does not use the node."""
        return self._submit_pinned(None, node, args, kwargs, self._limits, self._demands)

    def submit_job_id_node(
        self, job_id: Any, node: DispyNode | str, *args: Any, **kwargs: Any
    ) -> DispyJob | None:
        """Do as `submit_node`, with *job_id* as ``job.id`` (unless it is falsy)."""
        return self._submit_pinned(job_id, node, args, kwargs, self._limits, self._demands)

    def options(
        self,
        *,
        timeout: float | Unset | None = UNSET,
        memory: int | str | Unset | None = UNSET,
        cpu_time: float | Unset | None = UNSET,
        processes: int | Unset | None = UNSET,
        priority: int | Unset = UNSET,
        cpus: int | Unset = UNSET,
        resources: Mapping[str, int] | Unset | None = UNSET,
        exclusive: bool | Unset = UNSET,
    ) -> ClusterView:
        """Return a view of the cluster whose jobs have these options; those not given stay as they are here.

        The first four are limits. Each holds for the job with all processes below it, and None is no limit. A job that
        goes beyond one is ended by its node: its status is Terminated, and ``job.error`` tells which one it was.

        Args:
            timeout: seconds from the start of the job; `dispy.errors.JobTimeout`.
            memory: bytes, or a text such as ``"2GB"``; `dispy.errors.JobMemoryExceeded`.
            cpu_time: seconds of processors' time; `dispy.errors.JobTimeout`.
            processes: how many there may be at a time; `dispy.errors.JobLimitExceeded`.
            priority: jobs of this cluster with a higher one go to nodes before those with a lower one, 0 by default.
                A job that was sent to a node is not overtaken any more.
            cpus: how many CPUs of its node a job has for itself; 1 by default. ``DISPY_CPUS`` tells the job.
            resources: what else it has for itself, of what nodes offer by ``--resource``: names with counts, such as
                ``{"gpu": 1}``; None for nothing. ``DISPY_RESOURCES`` tells the job which, and ``CUDA_VISIBLE_DEVICES``
                has the items of ``"gpu"``. ``"cpu"`` is the same as *cpus*.
            exclusive: True: it has all CPUs that the cluster may use at its node, and nothing else runs there.

        A job with one of the last three starts where all of that is free together, and keeps it until it ends. If no
        node that is used can ever run it, it waits for one that can: `explain` and a warning say so.

        Raises:
            UsageError: one cannot be right.
        """
        return ClusterView(
            self,
            change_limits(
                self._limits, timeout=timeout, memory=memory, cpu_time=cpu_time, processes=processes
            ),
            change_demands(
                self._demands, priority=priority, cpus=cpus, resources=resources, exclusive=exclusive
            ),
        )

    def _submit(
        self,
        job_id: Any,
        node: Node | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        limits: JobLimits | None,
        demands: Demands,
    ) -> DispyJob:
        raise NotImplementedError

    def _submit_pinned(
        self,
        job_id: Any,
        node: DispyNode | str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        limits: JobLimits | None,
        demands: Demands,
    ) -> DispyJob | None:
        raise NotImplementedError


class ClusterView(Submitting):
    """What `options` returns: submits jobs with other options to the same cluster. Made and thrown away at will."""

    def __init__(self, cluster: Submitting, limits: JobLimits | None, demands: Demands) -> None:
        # A view of a view is one of the cluster.
        self._cluster: Submitting = cluster._cluster if isinstance(cluster, ClusterView) else cluster
        self._limits = limits
        self._demands = demands

    def _submit(
        self,
        job_id: Any,
        node: Node | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        limits: JobLimits | None,
        demands: Demands,
    ) -> DispyJob:
        return self._cluster._submit(job_id, node, args, kwargs, limits, demands)

    def _submit_pinned(
        self,
        job_id: Any,
        node: DispyNode | str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        limits: JobLimits | None,
        demands: Demands,
    ) -> DispyJob | None:
        return self._cluster._submit_pinned(job_id, node, args, kwargs, limits, demands)
