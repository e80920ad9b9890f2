"""What users write in ``nodes=[...]``: whom to dial, and which of the nodes that are known to use."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dispy.config import checked_port
from dispy.errors import InvalidNodes, UsageError
from dispy.logger import logger
from dispy.status import DispyNode, DispyNodeAvailInfo

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

    from dispy.engine.records import Node
    from dispy.model import NodeId

LOCAL = "local"
"""Stands for a node on this machine that belongs to the program."""

FIELDS = ("host", "port", "cpus", "depends", "setup_args")
"""Meaning of the elements of a tuple, and keys of a dict."""

HOST_NAME = re.compile(r"[^\W_]([\w.-]*\w)?\.?")
SCHEME = re.compile(r"([a-z][a-z0-9+-]*):(?![0-9]+\Z)(.+)", re.DOTALL)
IPV6_PATTERN = re.compile(r"(?=.*\*)[0-9a-f:.*]+", re.IGNORECASE)
PORT = re.compile(r"(.*?):([0-9]+)", re.DOTALL)

Target = tuple[str, str, int]
"""Scheme, host as the user wrote it (or a path), port (0 where there is none)."""


class NodeAllocate:
    """Names nodes, and says how many of their CPUs a cluster may use.

    Override `allocate` in a sub-class to decide by what a node has free.

    Args:
        host: name or address of a node, or a pattern with ``*``; see the documentation of ``nodes``.
        port: port of the node; by default that of `dispy.config`.
        cpus: at most that many; a negative number: all but that many; 0: all.
        depends: paths of files that these nodes get on top of the cluster's ``depends``.
        setup_args: positional arguments of the cluster's ``setup`` and ``cleanup`` at these nodes: a tuple or list;
            anything else is the only argument.

    Attributes ``depends`` and ``setup_args`` are read each time after `allocate` has returned, which may set them.

    Raises:
        UsageError: something in *depends* is no path of a file.
    """

    def __init__(
        self,
        host: str = "*",
        port: int | None = None,
        cpus: int = 0,
        depends: Sequence[Any] = (),
        setup_args: Any = (),
    ) -> None:
        self.host = host
        self.port = _usable_port(port)
        self.cpus = _usable_cpus(cpus)
        self.depends = as_paths(depends)
        self.setup_args = as_arguments(setup_args)

    def allocate(
        self,
        cluster: Any,
        ip_addr: str,
        name: str,
        cpus: int,
        avail_info: DispyNodeAvailInfo | None = None,
        platform: str = "",
    ) -> int:
        """Return how many CPUs of a node to use, 0 for none. It must not block.

        It is called for each node that ``host`` matches.

        Args:
            cluster: the cluster that asks.
            ip_addr: address of the node.
            name: what the node calls itself.
            cpus: how many it offers.
            avail_info: what it has free, or None if it does not tell.
            platform: its ``platform.platform()``.
        """
        if self.cpus > 0:
            return min(self.cpus, cpus)
        return max(0, cpus + self.cpus)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.host!r} port={self.port} cpus={self.cpus}>"


class NodePattern:
    """One element of ``nodes``, understood.

    Attributes:
        text: what the user wrote.
        host: name, address or path to match, or a pattern with ``*``.
        port: port that the user gave, or None.
        target: what to dial, or None for a pattern with ``*``.
        allocation: decides how many CPUs to use.
    """

    def __init__(
        self,
        text: str,
        allocation: NodeAllocate,
        *,
        default_port: int,
        node_id: NodeId | None = None,
    ) -> None:
        """Understand *text*.

        Raises:
            UsageError: it cannot be understood.
        """
        self.text = text
        self.allocation = allocation
        self._node_id = node_id
        scheme, self.host, self.port = _split(text)
        if allocation.port is not None:
            self.port = allocation.port
        self._network = network_of(self.host)
        self.is_wildcard = ("*" in self.host or self._network is not None) and scheme in ("", "tcp")
        self.matches_everything = self.host == "*" and self.is_wildcard
        self._expression = re.compile(re.escape(self.host).replace(r"\*", ".*"), re.IGNORECASE | re.DOTALL)
        self.target: Target | None = None
        if text == LOCAL:
            self.target = (LOCAL, LOCAL, 0)
        elif not self.is_wildcard:
            usual = default_port if scheme in ("", "tcp") else 0
            self.target = (scheme or "tcp", self.host, usual if self.port is None else self.port)

    def __repr__(self) -> str:
        return f"<NodePattern {self.text!r}>"

    @property
    def needs_trust(self) -> bool:
        """True if it can only be met by a node that another process has started."""
        return self.target is not None and self.target[0] != LOCAL

    def may_mean(self, addresses: Sequence[str], port: int) -> bool:
        """Tell whether a pattern with ``*`` may mean a node that listens there, and that has not been reached yet."""
        if not self.is_wildcard or self.port not in (None, port):
            return False
        return self.matches_everything or any(self._expression.fullmatch(address) for address in addresses)

    def matches(self, node: Node) -> bool:
        """Tell whether *node* is meant.

        It is if it was reached under what is written here; otherwise by its name or by any of its addresses, as a
        whole. A port that the user gave is only met by a node that was reached at that port, or that dialled.
        """
        if self._node_id is not None:
            return node.id == self._node_id
        if self.matches_everything:
            return True
        if self.target is not None:
            if self.target[1:] in node.targets:
                return True
            if self.target[0] != "tcp":
                return False
            if self.port is not None and node.targets and all(port != self.port for _, port in node.targets):
                return False
        fits = self._expression.fullmatch
        addresses = {node.peer_host, *node.addresses}
        if self._network is not None:
            return any(_is_within(address, self._network) for address in addresses)
        if any(fits(address) for address in addresses):
            return True
        return not self.is_wildcard and fits(node.name) is not None

    def slots_at(self, node: Node, cluster: Any) -> int:
        """Return how many CPUs of *node* to use, 0 if it is not meant or not wanted.

        Raises:
            UsageError: `NodeAllocate.allocate` was overridden and returns something else than a number.
        """
        if not self.matches(node):
            return 0
        cpus = self.allocation.allocate(
            cluster,
            node.peer_host,
            node.name,
            node.usable_cpus,
            avail_info=DispyNodeAvailInfo.of(node.avail),
            platform=node.platform,
        )
        if not isinstance(cpus, int) or cpus < 0:
            raise UsageError(
                f"{type(self.allocation).__name__}.allocate returned {cpus!r} for node {node.name!r}; "
                "it must return how many CPUs to use, 0 for none"
            )
        return min(int(cpus), node.usable_cpus)


def choose(patterns: Sequence[NodePattern], cluster: Any, node: Node) -> tuple[NodePattern | None, int]:
    """Ask the patterns in turn how many CPUs of *node* to use; return the first that wants any, and how many."""
    for pattern in patterns:
        cpus = pattern.slots_at(node, cluster)
        if cpus:
            return pattern, cpus
    return None, 0


def parse_nodes(nodes: Any, default_port: int) -> list[NodePattern]:
    """Understand the argument ``nodes`` of a cluster.

    Elements that cannot be understood are dropped with a warning. Names are not looked up: that is done when they
    are dialled, again and again, so that a machine may come later.

    Args:
        nodes: None or an empty list for all nodes; a name, or a list of names and other elements.
        default_port: of nodes for which none is given.

    Returns:
        The patterns: those that name a node first, those with ``*`` last, the most general one at the end.

    Raises:
        InvalidNodes: *nodes* is of a wrong type, or nothing is left of it.
        UsageError: files that an element names are not there.
    """
    if nodes is None or (isinstance(nodes, (list, tuple)) and not nodes):
        nodes = ["*"]
    elif isinstance(nodes, (str, NodeAllocate, DispyNode, dict)):
        nodes = [nodes]
    elif not isinstance(nodes, (list, tuple)):
        raise InvalidNodes(f'"nodes" argument is invalid: {nodes!r} is not a list')
    patterns = []
    for element in nodes:
        try:
            patterns.append(_pattern(element, default_port))
        except _Unusable as problem:
            logger.warning("element %r of nodes is not used: %s", element, problem)
    if not patterns:
        raise InvalidNodes(
            f'"nodes" argument is invalid: nothing in {nodes!r} can be used; '
            'give host names, addresses, "host:port", or patterns such as "192.168.1.*"'
        )
    return sorted(
        patterns, key=lambda pattern: (pattern.is_wildcard, -len(pattern.host) * pattern.is_wildcard)
    )


class _Unusable(UsageError):
    """An element of ``nodes`` that is to be dropped; the message says why."""


def _pattern(element: Any, default_port: int) -> NodePattern:
    node_id = None
    if isinstance(element, DispyNode):
        allocation = NodeAllocate(element.ip_addr)
        node_id = element._node_id
    elif isinstance(element, NodeAllocate):
        allocation = element
    elif isinstance(element, str):
        allocation = NodeAllocate(element)
    elif isinstance(element, (list, tuple)):
        if len(element) > len(FIELDS):
            raise _Unusable(f"it has more elements than {', '.join(FIELDS)}")
        allocation = _allocation(dict(zip(FIELDS, element, strict=False)))
    elif isinstance(element, Mapping):
        allocation = _allocation(element)
    else:
        raise _Unusable(f"{type(element).__name__} is not a way to name nodes")
    if not isinstance(allocation.host, str) or not allocation.host.strip():
        raise _Unusable("it names no host")
    return NodePattern(allocation.host.strip(), allocation, default_port=default_port, node_id=node_id)


def _allocation(fields: Mapping[Any, Any]) -> NodeAllocate:
    unknown = [key for key in fields if key not in FIELDS]
    if unknown:
        raise _Unusable(f"{unknown[0]!r} is none of {', '.join(FIELDS)}")
    return NodeAllocate(
        fields.get("host", "*"),
        fields.get("port"),
        fields.get("cpus", 0),
        fields.get("depends", ()),
        fields.get("setup_args", ()),
    )


def as_paths(depends: Any) -> list[str]:
    """Return the paths that ``depends`` of a node holds.

    Raises:
        UsageError: it is no list, or something in it is no path of a file.
    """
    if depends is None:
        return []
    if isinstance(depends, (str, bytes, os.PathLike)) or not hasattr(depends, "__iter__"):
        raise UsageError(f"depends of a node must be a list, not {depends!r}")
    paths = []
    for element in depends:
        path = os.fspath(element) if isinstance(element, os.PathLike) else element
        if not isinstance(path, str):
            raise UsageError(
                f"{element!r} in depends of a node is no path of a file; give what is none to the cluster"
            )
        if not os.path.isfile(path):
            raise UsageError(f"file {path!r} in depends of a node is not valid: there is no such file")
        paths.append(path)
    return paths


def as_arguments(setup_args: Any) -> tuple[Any, ...]:
    """Return the positional arguments that ``setup_args`` stands for."""
    return tuple(setup_args) if isinstance(setup_args, (tuple, list)) else (setup_args,)


def _usable_port(port: Any) -> int | None:
    if port is None:
        return None
    try:
        return checked_port(port, "port of a node")
    except UsageError as error:
        logger.warning("%s: the default is used", error)
        return None


def _usable_cpus(cpus: Any) -> int:
    if isinstance(cpus, int) and not isinstance(cpus, bool):
        return cpus
    logger.warning("cpus of a node must be a number, not %r: all are used", cpus)
    return 0


def _split(text: str) -> tuple[str, str, int | None]:
    """Take what names a node apart: scheme (or ""), host, port.

    Raises:
        _Unusable: it can be nothing of the kind.
    """
    found = SCHEME.fullmatch(text)
    if found and not _is_address(text) and network_of(text) is None and not IPV6_PATTERN.fullmatch(text):
        scheme, rest = found.groups()
        if scheme != "tcp":
            host, port = (rest, None) if rest[0] in "/.@" else _split_port(rest)
            return scheme, host, port
        text = rest
    else:
        scheme = ""
    host, port = _split_port(text)
    _check_host(host)
    return scheme, host, port


def _split_port(text: str) -> tuple[str, int | None]:
    """Split ``host``, ``host:port``, ``[address]`` or ``[address]:port``."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not PORT.fullmatch(rest)):
            raise _Unusable("brackets hold an IPv6 address, as in [::1]:51348")
        return host, _number(rest[1:]) if rest else None
    found = PORT.fullmatch(text)
    if found and ":" not in found[1]:
        return found[1], _number(found[2])
    return text, None


def _number(text: str) -> int:
    try:
        return checked_port(int(text), "a port")
    except UsageError as error:
        raise _Unusable(str(error)) from error


def _is_address(text: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def network_of(text: str) -> IPv4Network | IPv6Network | None:
    """Return the network that is written as address/prefix, None if it is something else."""
    if "/" not in text:
        return None
    import ipaddress

    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _is_within(address: str, network: IPv4Network | IPv6Network) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(address.partition("%")[0]) in network
    except ValueError:
        return False


def _check_host(host: str) -> None:
    if network_of(host) is not None:
        return
    if "*" in host:
        if re.fullmatch(r"[\w.:*-]+", host):
            return
    elif _is_address(host):
        return
    elif re.fullmatch(r"[0-9.]+", host):
        raise _Unusable(f"{host!r} is not an address")
    elif HOST_NAME.fullmatch(host):
        return
    raise _Unusable(f"{host!r} is neither a host name nor an address, nor a pattern")
