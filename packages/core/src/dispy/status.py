"""What an application sees of nodes, and the table that ``cluster.stats()`` prints."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from dispy.model import NodeStatus

if TYPE_CHECKING:
    from dispy.engine.records import Node, Placement
    from dispy.model import Avail, NodeId

NAME_WIDTH = 15
"""Longest name of a node in the table, in characters; as in the original."""

HEADINGS = ("Node", "CPUs", "Jobs", "Sec/Job", "Node Time Sec", "Sent", "Rcvd")
WIDTHS = (NAME_WIDTH, 5, 7, 9, 13, 9, 9)


@dataclass(slots=True)
class DispyNodeAvailInfo:
    """What a node has free.

    Attributes:
        cpu: percent.
        memory: bytes.
        disk: bytes, where the node keeps files.
        swap: percent.
    """

    cpu: float
    memory: int
    disk: int
    swap: float

    @classmethod
    def of(cls, avail: Avail | None) -> DispyNodeAvailInfo | None:
        """Make it from what the node reported, if it did."""
        if avail is None:
            return None
        return cls(avail.cpu_percent, avail.memory_bytes, avail.disk_bytes, avail.swap_percent)


class DispyNode:
    """A node, as one cluster sees it; it changes while you look.

    Attributes:
        ip_addr: address that it is reached at.
        name: what it calls itself.
        cpus: how many of its CPUs the cluster uses.
        avail_cpus: how many it offers.
        busy: how many of them its jobs use now: one each, but for those that need more.
        resources: what it has besides CPUs: name -> how many items.
        jobs_done: how many it has done.
        cpu_time: seconds that those took.
        tx: bytes sent to it.
        rx: bytes received from it.
        update_time: when this was last true, in seconds since the epoch.
        avail_info: what it has free, or None if it does not tell.
    """

    Initialized: ClassVar = NodeStatus.INITIALIZED
    Closed: ClassVar = NodeStatus.CLOSED
    AvailInfo: ClassVar = NodeStatus.AVAIL_INFO

    def __init__(self, ip_addr: str, name: str = "", cpus: int = 0) -> None:
        self.ip_addr = ip_addr
        self.name = name
        self.cpus = cpus
        self.avail_cpus = cpus
        self.busy = 0
        self.jobs_done = 0
        self.cpu_time = 0.0
        self.tx = 0
        self.rx = 0
        self.update_time = time.time()
        self.avail_info: DispyNodeAvailInfo | None = None
        self.resources: dict[str, int] = {}
        self._node_id: NodeId | None = None

    def __repr__(self) -> str:
        return f"<DispyNode {self.name or '?'} {self.ip_addr} cpus={self.cpus} busy={self.busy}>"

    def _update(self, node: Node, placement: Placement | None) -> None:
        """Take over what the engine knows, in the engine's thread."""
        from dispy.engine.capacity import (
            cpus_used,
        )  # the engine is there, but `import dispy` must not load it

        self._node_id = node.id
        self.name = node.name
        self.ip_addr = node.peer_host
        self.avail_cpus = node.cpus
        self.resources = dict(node.resources)
        self.tx = node.bytes_sent
        self.rx = node.bytes_received
        self.avail_info = DispyNodeAvailInfo.of(node.avail)
        if placement is not None:
            self.cpus = placement.slots
            self.busy = min(cpus_used(placement), placement.slots)
            self.jobs_done = placement.jobs_done
            self.cpu_time = placement.cpu_time_s
        self.update_time = time.time()


class ClusterStatus(NamedTuple):
    """State of a cluster: its nodes, and the number of jobs that are not done."""

    nodes: Sequence[DispyNode]
    jobs_pending: int


def format_status(status: ClusterStatus, wall_time_s: float) -> str:
    """Return the table of nodes and times.

    Args:
        status: what is shown.
        wall_time_s: seconds that have passed for the user; the speedup is the jobs' time divided by it.
    """
    lines = ["", _row(HEADINGS), "-" * len(_row(HEADINGS))]
    lines += [_row(_cells(node)) for node in status.nodes]
    lines.append("")
    lines += [
        f"Resources of {_name(node)}: {_show_resources(node)}" for node in status.nodes if node.resources
    ]
    if status.jobs_pending:
        lines.append(f"Jobs pending: {status.jobs_pending}")
    job_time_s = sum(node.cpu_time for node in status.nodes)
    speedup = job_time_s / wall_time_s if wall_time_s > 0 else 0.0
    lines.append(
        f"Total job time: {job_time_s:.3f} sec, wall time: {wall_time_s:.3f} sec, speedup: {speedup:.3f}"
    )
    return "\n".join(lines) + "\n"


def format_bytes(count: int) -> str:
    """Write a number of bytes with one decimal and its unit: ``"1.5 K"``; units are powers of 1024."""
    value = float(count)
    for unit in "BKMGT":
        # What would be rounded up to 1024.0 is written in the next unit.
        if value < 1023.95 or unit == "T":
            break
        value /= 1024
    return f"{value:.1f} {unit}"


def _row(cells: Sequence[str]) -> str:
    return " | ".join(cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=True))


def _name(node: DispyNode) -> str:
    return node.name or node.ip_addr


def _show_resources(node: DispyNode) -> str:
    return ", ".join(f"{name}={count}" for name, count in sorted(node.resources.items()))


def _cells(node: DispyNode) -> list[str]:
    per_job_s = node.cpu_time / node.jobs_done if node.jobs_done else 0.0
    return [
        _name(node)[:NAME_WIDTH],
        str(node.cpus),
        str(node.jobs_done),
        f"{per_job_s:.1f}",
        f"{node.cpu_time:.1f}",
        format_bytes(node.tx),
        format_bytes(node.rx),
    ]
