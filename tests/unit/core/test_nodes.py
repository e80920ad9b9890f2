from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.engine.records import Node, NodeState
from dispy.errors import InvalidNodes, UsageError
from dispy.model import Avail, NodeId, PythonVersion
from dispy.nodes import NodeAllocate, NodePattern, choose, parse_nodes
from dispy.status import DispyNode, DispyNodeAvailInfo

PORT = 51348


def node(
    host: str = "10.9.9.1",
    *,
    name: str = "node1",
    cpus: int = 8,
    addresses: set[str] | None = None,
    targets: set[tuple[str, int]] | None = None,
    avail: Avail | None = None,
) -> Node:
    return Node(
        NodeId("n" + name),
        name,
        1,
        cpus,
        PythonVersion(3, 12),
        "Linux-6",
        "5",
        NodeState.CONNECTED,
        None,
        host,
        addresses or {host},
        targets or set(),
        avail,
    )


def one(element: Any) -> NodePattern:
    (pattern,) = parse_nodes([element], PORT)
    return pattern


# ---- whom to dial


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("node1", ("tcp", "node1", PORT)),
        ("node1.example.org:99", ("tcp", "node1.example.org", 99)),
        ("10.0.0.1", ("tcp", "10.0.0.1", PORT)),
        ("10.0.0.1:99", ("tcp", "10.0.0.1", 99)),
        ("::1", ("tcp", "::1", PORT)),
        ("fe80::1%eth0", ("tcp", "fe80::1%eth0", PORT)),
        ("[::1]", ("tcp", "::1", PORT)),
        ("[::1]:99", ("tcp", "::1", 99)),
        ("tcp:node1", ("tcp", "node1", PORT)),
        ("tcp:node1:99", ("tcp", "node1", 99)),
        ("tcp:[::1]:99", ("tcp", "::1", 99)),
        ("unix:/run/some where/node:1", ("unix", "/run/some where/node:1", 0)),
        ("memory:node1", ("memory", "node1", 0)),
        ("ssl:node1:99", ("ssl", "node1", 99)),
        ("local", ("local", "local", 0)),
        ("  node1 ", ("tcp", "node1", PORT)),
        ("10.0.0.*", None),
        ("10.0.0.*:99", None),
        ("fe80:*", None),
        ("fe80::*", None),
        ("*", None),
    ],
)
def test_strings(text: str, target: tuple[str, str, int] | None) -> None:
    pattern = one(text)
    assert pattern.target == target
    assert pattern.is_wildcard == (target is None)
    assert pattern.matches_everything == (text == "*")


@pytest.mark.parametrize(
    ("element", "target", "cpus"),
    [
        (("node1",), ("tcp", "node1", PORT), 0),
        (["node1", 99], ("tcp", "node1", 99), 0),
        (("node1", None, 3), ("tcp", "node1", PORT), 3),
        (("node1", 99, 3, [], ()), ("tcp", "node1", 99), 3),
        ({"host": "node1", "port": 99, "cpus": -2}, ("tcp", "node1", 99), -2),
        ({"cpus": 2}, None, 2),
        (NodeAllocate("node1", 99, 3), ("tcp", "node1", 99), 3),
        (NodeAllocate("node1:98"), ("tcp", "node1", 98), 0),
        (DispyNode("10.0.0.1", "node1"), ("tcp", "10.0.0.1", PORT), 0),
    ],
    ids=repr,
)
def test_other_elements(element: Any, target: Any, cpus: int) -> None:
    pattern = one(element)
    assert (pattern.target, pattern.allocation.cpus) == (target, cpus)


@pytest.mark.parametrize("nodes", [None, [], ()])
def test_nothing_means_every_node(nodes: Any) -> None:
    (pattern,) = parse_nodes(nodes, PORT)
    assert pattern.matches_everything


@pytest.mark.parametrize(
    "element", ["node1", NodeAllocate("node1"), {"host": "node1"}, DispyNode("node1")], ids=repr
)
def test_a_single_element_needs_no_list(element: Any) -> None:
    assert parse_nodes(element, PORT)[0].target == ("tcp", "node1", PORT)


@pytest.mark.parametrize("nodes", [5, b"node1", object()], ids=lambda nodes: type(nodes).__name__)
def test_a_wrong_type(nodes: Any) -> None:
    with pytest.raises(InvalidNodes, match='"nodes" argument is invalid.*not a list'):
        parse_nodes(nodes, PORT)


@pytest.mark.parametrize(
    ("element", "why"),
    [
        ("", "names no host"),
        ("two words", "neither a host name nor an address"),
        ("a/b", "neither a host name"),
        ("10.0.0.300", "is not an address"),
        ("node1:0", "from 1 to 65535"),
        ("node1:70000", "from 1 to 65535"),
        ("[::1", "brackets"),
        ("[::1]x", "brackets"),
        ("10.*.(", "neither a host name"),
        (5, "int is not a way to name nodes"),
        ((None,), "names no host"),
        ((7,), "names no host"),
        (("a", 1, 1, [], (), 6), "more elements"),
        ({"hots": "a"}, "'hots' is none of host"),
    ],
    ids=repr,
)
def test_elements_that_mean_nothing_are_dropped_with_a_warning(
    element: Any, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (pattern,) = parse_nodes([element, "node1"], PORT)
    assert pattern.text == "node1"
    warning = capsys.readouterr().out
    assert repr(element) in warning
    assert why in warning
    with pytest.raises(InvalidNodes, match='"nodes" argument is invalid: nothing in .* can be used; give'):
        parse_nodes([element], PORT)


def test_files_of_nodes(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.touch()
    for element in (("node1", None, 0, [path]), {"host": "node1", "depends": (str(path),)}):
        assert one(element).allocation.depends == [str(path)]
    assert NodeAllocate("node1", depends=None).depends == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("depends", "problem"),
    [
        ("data", "depends of a node must be a list, not 'data'"),
        (b"data", "must be a list"),
        (5, "must be a list"),
        (["missing"], "file 'missing' in depends of a node is not valid: there is no such file"),
        (["/"], "file '/' in depends"),
        ([len], "<built-in function len> in depends of a node is no path of a file"),
        ([b"x"], "b'x' in depends"),
    ],
)
def test_what_is_no_file_of_a_node(depends: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=re.escape(problem)):
        NodeAllocate("node1", depends=depends)
    with pytest.raises(UsageError, match=re.escape(problem)):
        parse_nodes([{"host": "node1", "depends": depends}], PORT)


@pytest.mark.parametrize(
    ("given", "understood"),
    [((), ()), ((1, "a"), (1, "a")), ([1, 2], (1, 2)), ("abc", ("abc",)), (None, (None,)), ({}, ({},))],
)
def test_arguments_of_setup(given: Any, understood: tuple[Any, ...]) -> None:
    for element in (
        NodeAllocate("node1", setup_args=given),
        ("node1", None, 0, [], given),
        {"host": "node1", "setup_args": given},
    ):
        assert one(element).allocation.setup_args == understood
    assert one("node1").allocation.setup_args == ()


def test_wrong_ports_and_cpus_are_warned_about(capsys: pytest.CaptureFixture[str]) -> None:
    allocation = NodeAllocate("node1", port=-1, cpus="two")  # type: ignore[arg-type]
    assert (allocation.port, allocation.cpus) == (None, 0)
    warnings = capsys.readouterr().out
    assert "port of a node must be a number from 1 to 65535, not -1" in warnings
    assert "cpus of a node must be a number, not 'two'" in warnings


def test_names_come_before_patterns_and_the_most_general_pattern_last() -> None:
    patterns = parse_nodes(["*", "10.*", "b", "10.9.9.*", "a"], PORT)
    assert [pattern.text for pattern in patterns] == ["b", "a", "10.9.9.*", "10.*", "*"]


@given(st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.integers()) | st.integers())
def test_whatever_is_written_is_understood_or_a_usage_error(element: Any) -> None:
    try:
        patterns = parse_nodes([element], PORT)
    except UsageError:
        return
    assert len(patterns) == 1
    patterns[0].matches(node())


# ---- which nodes are meant


@pytest.mark.parametrize(
    ("text", "host", "meant"),
    [
        ("10.9.9.1", "10.9.9.1", True),
        ("10.9.9.1", "10.9.9.11", False),
        ("10.9.9.1", "110.9.9.1", False),
        ("10.9.9.1", "10x9x9x1", False),
        ("10.9.9.*", "10.9.9.11", True),
        ("10.9.9.*", "10.9.91.1", False),
        ("10.*.1", "10.9.9.1", True),
        ("fe80:*", "fe80::7", True),
        ("*", "whatever", True),
        ("node1", "10.0.0.1", True),
        ("NODE1", "10.0.0.1", True),
        ("node", "10.0.0.1", False),
        ("node11", "10.0.0.1", False),
        ("node*", "10.0.0.1", False),
        ("local", "10.0.0.1", False),
        ("unix:/run/x", "10.0.0.1", False),
    ],
)
def test_patterns_match_as_a_whole(text: str, host: str, meant: bool) -> None:
    assert one(text).matches(node(host)) is meant


numbers = st.integers(0, 255)
addresses = st.tuples(numbers, numbers, numbers, numbers).map(lambda parts: ".".join(map(str, parts)))


@given(addresses, addresses)
def test_an_address_matches_itself_and_no_other(written: str, other: str) -> None:
    assert one(written).matches(node(other, name="n")) is (written == other)


@given(addresses, st.integers(1, 3), addresses)
def test_a_pattern_matches_what_has_the_same_beginning(written: str, count: int, other: str) -> None:
    head = ".".join(written.split(".")[:count]) + "."
    pattern = one(head + "*")
    assert pattern.matches(node(written, name="n"))
    assert pattern.matches(node(other, name="n")) is other.startswith(head)


def test_any_address_of_a_node_will_do() -> None:
    several = node("127.0.0.1", addresses={"10.0.0.7", "fd00::7"})
    for text in ("127.0.0.1", "10.0.0.7", "10.0.0.*", "fd00::7"):
        assert one(text).matches(several)


def test_a_node_matches_the_name_it_was_reached_by() -> None:
    reached = node("10.0.0.7", name="x", targets={("alias", PORT), ("/run/node", 0)})
    assert one("alias").matches(reached)
    assert one("unix:/run/node").matches(reached)
    assert not one("other").matches(reached)


def test_two_nodes_of_one_machine_are_told_apart_by_port() -> None:
    first = node("127.0.0.1", name="a", targets={("127.0.0.1", 51400)})
    second = node("127.0.0.1", name="b", targets={("localhost", 51401)})
    dialled = node("127.0.0.1", name="c")
    assert one("127.0.0.1:51400").matches(first)
    assert not one("127.0.0.1:51400").matches(second)
    assert one("127.0.0.1:51401").matches(second)
    assert one("127.0.0.1:51400").matches(dialled)
    assert one("127.0.0.1").matches(second)


def test_the_embedded_node() -> None:
    assert one("local").matches(node("127.0.0.1", targets={("local", 0)}))


def test_a_dispy_node_is_just_that_node() -> None:
    shown = DispyNode("10.9.9.1")
    shown._update(node("10.9.9.1", name="a"), None)
    assert one(shown).matches(node("10.9.9.1", name="a"))
    assert not one(shown).matches(node("10.9.9.1", name="b"))


# ---- how much of them is used


@pytest.mark.parametrize(("cpus", "used"), [(0, 8), (3, 3), (8, 8), (20, 8), (-1, 7), (-8, 0), (-20, 0)])
def test_cpus(cpus: int, used: int) -> None:
    assert choose([one(("*", None, cpus))], None, node())[1] == used


def test_the_first_pattern_that_wants_cpus_decides() -> None:
    patterns = parse_nodes([("*", None, 1), ("10.9.9.1", None, -8), ("10.9.*", None, 2)], PORT)
    assert choose(patterns, None, node()) == (patterns[1], 2)
    assert choose(patterns, None, node("10.7.7.7"))[1] == 1
    assert choose([one("10.9.9.2")], None, node()) == (None, 0)


class Recorder(NodeAllocate):
    answer: Any = 3

    def allocate(self, *args: Any, **kwargs: Any) -> Any:
        self.called = args, kwargs
        return self.answer


def test_allocate_can_be_overridden() -> None:
    recorder, cluster = Recorder("10.9.9.1"), object()
    pattern = one(recorder)
    assert choose([pattern], cluster, node(avail=Avail(50.0, 2, 3, 4.0)))[1] == 3
    assert recorder.called == (
        (cluster, "10.9.9.1", "node1", 8),
        {"avail_info": DispyNodeAvailInfo(50.0, 2, 3, 4.0), "platform": "Linux-6"},
    )
    del recorder.called
    assert choose([pattern], cluster, node("10.9.9.2"))[1] == 0
    assert not hasattr(recorder, "called")
    recorder.answer = 100
    assert choose([pattern], cluster, node())[1] == 8


@pytest.mark.parametrize("answer", [None, -1, "2"])
def test_allocate_must_return_a_number(answer: Any) -> None:
    recorder = Recorder("*")
    recorder.answer = answer
    with pytest.raises(UsageError, match="Recorder.allocate returned .*'node1'; it must return"):
        choose([one(recorder)], None, node())


def test_address_as_a_node_prints_it_can_be_given_back() -> None:
    pattern = parse_nodes(["tcp:127.0.0.1:7001"], 51348)[0]
    assert pattern.target == ("tcp", "127.0.0.1", 7001)


@pytest.mark.parametrize(
    ("network", "host", "meant"),
    [
        ("10.9.9.0/24", "10.9.9.1", True),
        ("10.9.9.77/24", "10.9.9.1", True),
        ("10.9.9.0/24", "10.9.90.1", False),
        ("0.0.0.0/0", "10.9.9.1", True),
        ("0.0.0.0/0", "fe80::1", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("fd00::/8", "fe80::1", False),
        ("10.9.9.0/24", "a name of another transport", False),
    ],
)
def test_networks_are_patterns(network: str, host: str, meant: bool) -> None:
    pattern = one(network)
    assert pattern.is_wildcard
    assert pattern.target is None
    assert pattern.matches(node(host)) is meant


def test_a_network_may_have_a_port() -> None:
    pattern = one("10.9.9.0/24:5000")
    assert pattern.port == 5000
    assert pattern.matches(node(targets={("node1", 5000)}))
