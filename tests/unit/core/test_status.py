from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.engine.records import Job, Node, NodeState, Placement, PlacementState
from dispy.model import Avail, ComputationId, JobId, NodeId, PythonVersion
from dispy.status import ClusterStatus, DispyNode, DispyNodeAvailInfo, format_bytes, format_status


def shown(name: str, ip_addr: str, *, cpus: int = 0, jobs_done: int = 0, cpu_time: float = 0.0) -> DispyNode:
    node = DispyNode(ip_addr, name, cpus)
    node.jobs_done = jobs_done
    node.cpu_time = cpu_time
    return node


def test_constants_are_those_of_the_original() -> None:
    assert [int(n) for n in (DispyNode.Initialized, DispyNode.Closed, DispyNode.AvailInfo)] == [4, 16, 17]


def test_a_node_shows_what_the_engine_knows() -> None:
    record = Node(
        NodeId("x"), "node1", 1, 8, PythonVersion(3, 12), "Linux", "5", NodeState.CONNECTED, None, "10.0.0.1"
    )
    record.avail = Avail(99.5, 1000, 2000, 100.0)
    record.bytes_sent, record.bytes_received = 10, 20
    jobs = {number: Job(JobId(number), ComputationId("c"), b"") for number in range(5)}
    placement = Placement(record, PlacementState.READY, 3, jobs, jobs_done=7, cpu_time_s=1.5)
    node = DispyNode("10.0.0.1")
    before = node.update_time
    node._update(record, placement)
    assert (node.name, node.cpus, node.avail_cpus, node.busy) == ("node1", 3, 8, 3)
    assert (node.jobs_done, node.cpu_time, node.tx, node.rx) == (7, 1.5, 10, 20)
    assert node.avail_info == DispyNodeAvailInfo(cpu=99.5, memory=1000, disk=2000, swap=100.0)
    assert node.update_time >= before
    record.avail = None
    node._update(record, None)
    assert node.avail_info is None
    assert node.cpus == 3
    assert repr(node) == "<DispyNode node1 10.0.0.1 cpus=3 busy=3>"


def test_cluster_status_is_a_named_tuple() -> None:
    nodes, pending = ClusterStatus(nodes=[], jobs_pending=2)
    assert (nodes, pending) == ([], 2)


def test_the_table() -> None:
    first = shown("a-very-long-name-of-a-node", "10.0.0.1", cpus=4, jobs_done=3, cpu_time=10.04)
    first.tx, first.rx = 1536, 3 * 1024**3
    status = ClusterStatus([first, shown("", "10.0.0.2", cpus=2)], 5)
    lines = format_status(status, 4.0).splitlines()
    assert lines[0] == ""
    cells = [[cell.strip() for cell in line.split("|")] for line in lines if "|" in line]
    assert cells == [
        ["Node", "CPUs", "Jobs", "Sec/Job", "Node Time Sec", "Sent", "Rcvd"],
        ["a-very-long-nam", "4", "3", "3.3", "10.0", "1.5 K", "3.0 G"],
        ["10.0.0.2", "2", "0", "0.0", "0.0", "0.0 B", "0.0 B"],
    ]
    assert len({len(line) for line in lines if "|" in line or "---" in line}) == 1
    assert lines[-2:] == [
        "Jobs pending: 5",
        "Total job time: 10.040 sec, wall time: 4.000 sec, speedup: 2.510",
    ]


def test_resources_stand_below_the_table() -> None:
    first = shown("node1", "10.0.0.1", cpus=4)
    first.resources = {"port": 3, "gpu": 2}
    text = format_status(ClusterStatus([first, shown("", "10.0.0.2", cpus=2)], 0), 1.0)
    assert "\nResources of node1: gpu=2, port=3\n" in text
    assert text.count("Resources") == 1


def test_nothing_pending_is_not_mentioned_and_no_time_is_no_error() -> None:
    text = format_status(ClusterStatus([], 0), 0.0)
    assert "pending" not in text
    assert "speedup: 0.000" in text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0.0 B"),
        (1023, "1023.0 B"),
        (1024, "1.0 K"),
        (1024**2 - 1, "1.0 M"),
        (5 * 1024**4, "5.0 T"),
        (1024**5, "1024.0 T"),
    ],
)
def test_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text


@given(st.integers(0, 1024**5))
def test_bytes_are_right_to_one_decimal(count: int) -> None:
    number, unit = format_bytes(count).split()
    size = 1024 ** "BKMGT".index(unit)
    assert abs(float(number) * size - count) <= 0.0501 * size
    assert float(number) < 1024 or unit == "T"
