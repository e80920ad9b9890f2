"""Addresses of this machine, the port of nodes on it, nodes that were named, and firewalls."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from dispy.runtime.probe import Probed
from dispy_cli.checks.finding import Finding, Level

CONNECT_S = 2.0

FIREWALLS: Mapping[str, tuple[str, str, str]] = {
    "ufw": (
        "etc/ufw/ufw.conf",
        "ENABLED=yes",
        "ufw allow {port}/tcp && ufw allow {port}/udp && ufw allow {client_port}/udp",
    ),
    "firewalld": (
        "run/firewalld.pid",
        "",
        (
            "firewall-cmd --permanent --add-port={port}/tcp --add-port={port}/udp "
            "--add-port={client_port}/udp && firewall-cmd --reload"
        ),
    ),
}
"""Firewall -> a file that is there while it works, what stands in it then, and the command that opens the ports."""


def check_addresses(interfaces: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Tell the addresses by which others can reach this machine.

    Args:
        interfaces: name -> addresses.
    """
    outer = {name: [one for one in found if not _is_inner(one)] for name, found in interfaces.items()}
    listed = "; ".join(f"{name} {', '.join(found)}" for name, found in outer.items() if found)
    if not listed:
        text = "this machine has no address but loopback, so no other machine can reach a node here"
        return [Finding("addresses", Level.WARN, text, "connect it to a network, or use nodes on it alone")]
    return [Finding("addresses", Level.OK, listed)]


def _is_inner(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return True
    return address.is_loopback or address.is_link_local


def can_listen(port: int) -> str:
    """Tell why one cannot listen on a port of this machine; empty if one can."""
    with contextlib.suppress(OSError), socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("", port))
        except OSError as error:
            return "it is in use" if error.errno == errno.EADDRINUSE else str(error.strerror or error)
    return ""


def check_port(port: int, probed: Probed, why_not: str) -> list[Finding]:
    """Tell who has the port of nodes on this machine.

    Args:
        probed: what answers there on loopback.
        why_not: why one cannot listen on it; empty if one can.
    """
    if probed.hello is not None:
        text = f"node {probed.hello.name} answers on port {port}"
        if probed.hello.refusal:
            remedy = "wait, or change that with `dispy node`"
            return [Finding("port", Level.WARN, f"{text}, and takes no jobs: {probed.hello.refusal}", remedy)]
        return [Finding("port", Level.OK, text)]
    if not why_not:
        return [Finding("port", Level.OK, f"port {port} is free; no node runs here")]
    text = f"one cannot listen on port {port}: {why_not}; as a node it says: {probed.reason}"
    remedy = (
        "if a node has it, do as it says; else end who has it (ss -ltnp), or choose another with --dispy_port"
    )
    return [Finding("port", Level.FAIL, text, remedy)]


def check_reachable(port: int, interfaces: Mapping[str, Sequence[str]]) -> list[Finding]:
    """See that the node of this machine answers at its outer addresses, too; nobody is greeted."""
    deaf = []
    for address in [one for found in interfaces.values() for one in found if not _is_inner(one)]:
        try:
            socket.create_connection((address, port), CONNECT_S).close()
        except OSError as error:
            deaf.append(f"{address} ({error.strerror or error})")
    if not deaf:
        return [
            Finding(
                "reachable", Level.OK, f"port {port} answers at all addresses, as far as this machine sees"
            )
        ]
    text = f"port {port} answers on loopback, and not at {', '.join(deaf)}"
    remedy = "see what --host the node was started with, and let the port through the firewall"
    return [Finding("reachable", Level.WARN, text, remedy)]


def check_firewalls(port: int, client_port: int, root: Path = Path("/")) -> list[Finding]:
    """Tell of firewalls that work here; what they let through only root could see.

    Args:
        port: of nodes, by TCP and UDP.
        client_port: UDP port at which clients hear nodes announce themselves.
    """
    findings = []
    for name, (file, mark, command) in FIREWALLS.items():
        try:
            found = mark in (root / file).read_text(errors="replace")
        except OSError:
            continue  # it is not here
        if found:
            text = f"{name} works on this machine, and may keep others from nodes here"
            remedy = f"as root: {command.format(port=port, client_port=client_port)}"
            findings.append(Finding("firewall", Level.WARN, text, remedy))
    return findings or [Finding("firewall", Level.OK, "neither ufw nor firewalld is at work")]


def check_nodes(found: Sequence[Probed]) -> list[Finding]:
    """Tell of nodes that were named: who answers, and why others do not."""
    findings = []
    for one in found:
        where = f"{one.target.host}:{one.target.port}" if one.target.port else one.target.host
        if one.hello is None:
            remedy = "run `dispy doctor` there, too"
            findings.append(Finding("nodes", Level.FAIL, f"no node at {where}: {one.reason}", remedy))
        elif one.hello.refusal:
            text = f"node {one.hello.name} at {where} takes no jobs: {one.hello.refusal}"
            findings.append(Finding("nodes", Level.WARN, text, "wait, or ask its owner"))
        else:
            findings.append(Finding("nodes", Level.OK, f"node {one.hello.name} at {where} answers"))
    return findings
