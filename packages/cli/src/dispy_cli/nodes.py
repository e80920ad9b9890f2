"""``dispy nodes``: which nodes answer, and what they have free."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dispy.printable import printable
from dispy_cli import exits
from dispy_cli.security import security_options, take_security
from dispy_cli.tables import format_bytes, format_table

if TYPE_CHECKING:
    from dispy.plugins import PluginManager
    from dispy.runtime.dialer import Target
    from dispy.runtime.probe import Probed
    from dispy.runtime.trust import Trust
    from dispy.wire.messages import Hello
    from dispy_cli.surroundings import Surroundings

HEADINGS = ("NODE", "ADDRESS", "STATE", "SLOTS", "PYTHON", "DISPY", "CPU FREE", "MEMORY FREE", "DISK FREE")

RESOURCES = "RESOURCES"
"""Heading of one more column, if a node has some."""


@click.command("nodes", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-n",
    "--nodes",
    multiple=True,
    metavar="NODE",
    help="Name, address or host:port of a node to ask (repeatable).  [default: all that are found]",
)
@click.option(
    "-p",
    "--dispy_port",
    "--dispy-port",
    type=click.IntRange(1, 65534),
    help="Nodes listen on the port above this.  [default: 51347]",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON array, with those that did not answer too."
)
@security_options
def nodes(nodes: tuple[str, ...], dispy_port: int | None, as_json: bool, **options: Any) -> int:
    """List nodes and what they have free, and why others do not answer.

    Exit status: 0 at least one answered, 2 wrong usage, 3 none did.
    """
    from dispy.model import AccessRole
    from dispy.plugins import PluginManager
    from dispy.runtime.dialer import LOCAL_TARGET
    from dispy.runtime.probe import probe_nodes
    from dispy.runtime.trust import TrustStore, make_request

    request = make_request(AccessRole.OBSERVE, **take_security(options).parameters())
    plugins = PluginManager.load()
    trust = TrustStore(plugins).get(request)
    trust.require()
    trust.load()
    targets = [
        target if target == LOCAL_TARGET else target._replace(trust=trust)
        for target in list_targets(nodes, dispy_port)
    ]
    strangers: dict[str, str] = {}
    if nodes:
        found = probe_nodes(targets, plugins.transport)
    else:
        found, around = find_nodes(targets[0], trust, plugins)
        strangers = around.strangers
        if not as_json:
            tell_search(around, is_alone=not any(probed.hello for probed in found))
    if as_json:
        refused = [_refused(host, reason) for host, reason in strangers.items()]
        click.echo(json.dumps([to_json(probed) for probed in [*found, *refused]], indent=2))
    else:
        show(found)
    return exits.SUCCESS if any(probed.hello for probed in found) else exits.NO_NODES


def find_nodes(here: Target, trust: Trust, plugins: PluginManager) -> tuple[list[Probed], Surroundings]:
    """Look around, and ask each node that has answered, and *here*, who it is.

    Returns:
        one answer for each node, and what has come of the search. That nobody is *here* is told only if nobody is
        elsewhere.
    """
    from dispy.runtime.dialer import Target
    from dispy.runtime.probe import probe_nodes
    from dispy_cli.surroundings import look_around

    around = look_around(trust, plugins.discoveries)
    where = {here: ""}
    for sighting in around.sightings.values():
        for address in sighting.addresses:
            where.setdefault(Target("tcp", address, sighting.port, trust), sighting.ident)
    best: dict[str, Probed] = {}
    for expected, probed in zip(where.values(), probe_nodes(list(where), plugins.transport), strict=True):
        ident = probed.hello.ident if probed.hello else expected
        known = best.get(ident)
        if known is None or (known.hello is None and probed.hello is not None):
            best[ident] = probed
    if len(best) > 1:
        best.pop("", None)
    return list(best.values()), around


def tell_search(around: Surroundings, *, is_alone: bool) -> None:
    """Say on standard error who does not belong to us, and, if nobody does, where was looked."""
    for host, reason in around.strangers.items():
        click.echo(f"dispy: {host}: {printable(reason)}", err=True)
    if around.problem:
        click.echo(
            f"dispy: nodes that are not named were not looked for: {printable(around.problem)}", err=True
        )
    elif is_alone:
        where = (
            ", ".join(around.places) or "no network: this machine has none, or DISPY_INTERFACES leaves none"
        )
        click.echo(f"dispy: nodes were looked for on {printable(where)}", err=True)


def _refused(host: str, reason: str) -> Probed:
    from dispy.runtime.dialer import Target
    from dispy.runtime.probe import Probed

    return Probed(Target("tcp", host, 0), None, "", reason)


def list_targets(names: Sequence[str], dispy_port: int | None) -> list[Target]:
    """Return the addresses that the user means, each once.

    Raises:
        UsageError: a name is none, or is a pattern, which cannot be asked.
    """
    from dispy import config
    from dispy.errors import UsageError
    from dispy.nodes import parse_nodes
    from dispy.runtime.dialer import Target

    if dispy_port is not None:
        config.set_port(dispy_port)
    port = config.node_port()
    if not names:
        return [Target("tcp", "127.0.0.1", port)]
    targets: list[Target] = []
    for pattern in parse_nodes(list(names), port):
        if pattern.target is None:
            raise UsageError(f"node {pattern.text!r} is a pattern: name the nodes to ask")
        targets.append(Target(*pattern.target))
    return list(dict.fromkeys(targets))


def show(found: Sequence[Probed]) -> None:
    """Print a table of those that answered, and below it, on standard error, why the others did not."""
    answers = [(probed, probed.hello) for probed in found if probed.hello]
    if answers:
        rows = [_row(probed, hello) for probed, hello in answers]
        headings: tuple[str, ...] = HEADINGS
        if any(hello.resources for _, hello in answers):
            headings += (RESOURCES,)
            rows = [(*row, _show_resources(hello)) for row, (_, hello) in zip(rows, answers, strict=True)]
        click.echo(format_table(headings, rows))
    for probed in found:
        if not probed.hello:
            click.echo(f"dispy: no node at {_where(probed)}: {printable(probed.reason)}", err=True)
        elif probed.hello.refusal:
            click.echo(f"dispy: node {probed.hello.name} takes no jobs: {probed.hello.refusal}", err=True)


def _show_resources(hello: Hello) -> str:
    return ", ".join(f"{name}={count}" for name, count in sorted(hello.resources.items())) or "-"


def _row(probed: Probed, hello: Hello) -> tuple[str, ...]:
    free = ("?", "?", "?")
    if hello.avail is not None:
        cpu_percent, memory_bytes, disk_bytes, _swap = hello.avail
        free = (f"{cpu_percent:.0f} %", format_bytes(memory_bytes), format_bytes(disk_bytes))
    state = "closed" if hello.refusal or not hello.cpus else "open"
    return (hello.name, _where(probed), state, str(hello.cpus), hello.python, hello.version, *free)


def _where(probed: Probed) -> str:
    scheme, host, port, _trust = probed.target
    if not port:
        return host if scheme == host else f"{scheme}:{host}"
    host = probed.host or host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def to_json(probed: Probed) -> dict[str, Any]:
    """Return what ``--json`` tells of a node; keys without a value are null."""
    scheme, host, port, _trust = probed.target
    hello = probed.hello
    avail = hello.avail if hello else None
    return {
        "asked": {"scheme": scheme, "host": host, "port": port or None},
        "node": hello.name if hello else None,
        "id": hello.ident if hello else None,
        "address": probed.host or None,
        "refusal": (hello.refusal or None) if hello else None,
        "slots": hello.cpus if hello else None,
        "resources": dict(hello.resources) if hello else None,
        "python": hello.python if hello else None,
        "dispy": hello.version if hello else None,
        "platform": hello.platform if hello else None,
        "cpu_free_percent": avail[0] if avail else None,
        "memory_free_bytes": avail[1] if avail else None,
        "disk_free_bytes": avail[2] if avail else None,
        "swap_free_percent": avail[3] if avail else None,
        "error": probed.reason or None,
    }
