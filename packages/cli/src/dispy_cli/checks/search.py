"""Whether nodes that nobody names can be found: the networks that are searched, who answers, and the UDP ports."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from typing import TYPE_CHECKING

from dispy_cli.checks.finding import Finding, Level

if TYPE_CHECKING:
    from dispy_cli.surroundings import Surroundings


def check_search(around: Surroundings) -> list[Finding]:
    """Tell which networks were searched and how many nodes have answered, and of those that do not belong to us."""
    findings = []
    where = ", ".join(around.places)
    if around.problem:
        text, _, remedy = around.problem.partition("; ")
        findings.append(Finding("search", Level.WARN, text, remedy or "do as it says"))
    elif not where or around.is_local:
        text = f"nodes are looked for on {where or 'no network'} only, so none of other machines is found"
        remedy = "connect this machine to a network that has broadcast, and see what DISPY_INTERFACES says"
        findings.append(Finding("search", Level.WARN, text, remedy))
    else:
        count = len(around.sightings)
        findings.append(Finding("search", Level.OK, f"nodes are looked for on {where}; {count} answered"))
    for host, reason in around.strangers.items():
        text, _, remedy = reason.partition(": ")
        findings.append(Finding("search", Level.WARN, f"{host}: {text}", remedy or "see what it says"))
    return findings


def check_search_ports(client_port: int, node_port: int) -> list[Finding]:
    """See that no other program keeps the UDP ports of clients and nodes for itself."""
    findings = []
    for port, harm in (
        (client_port, "clients on this machine hear no node that announces itself"),
        (node_port, "a node on this machine hears nobody who looks for it"),
    ):
        why_not = can_share(port)
        if why_not:
            remedy = f"end who has it (ss -lunp 'sport = :{port}'), or choose another with --dispy_port"
            findings.append(Finding("search port", Level.WARN, f"UDP port {port}: {why_not}; {harm}", remedy))
    return findings or [
        Finding("search port", Level.OK, f"UDP ports {client_port} and {node_port} can be used")
    ]


def can_share(port: int) -> str:
    """Tell why one cannot hear at a UDP port as the search does, beside others; empty if one can."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform != "linux":
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            tried.bind(("", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return "a program has it that does not share it"
            return str(error.strerror or error)
    return ""
