"""``dispy doctor``: looks at what most often keeps clients and nodes apart, and says what to do."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dispy.printable import printable
from dispy_cli import exits
from dispy_cli.checks.finding import Finding, Level, split_remedy
from dispy_cli.nodes import list_targets
from dispy_cli.security import security_options, take_security

if TYPE_CHECKING:
    from dispy.plugins import PluginManager
    from dispy.runtime.trust import Trust

OWN = (
    "core",
    "transport-tcp",
    "transport-ssl",
    "auth-secret",
    "discovery-udp",
    "allocation",
    "faults",
    "node",
    "cli",
    "testing",
)
"""Distributions that come with dispy, without their common prefix."""


@click.command("doctor", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-n", "--nodes", multiple=True, metavar="NODE", help="Try to reach this node, too (repeatable)."
)
@click.option(
    "-p",
    "--dispy_port",
    "--dispy-port",
    type=click.IntRange(1, 65534),
    help="Nodes listen on the port above this.  [default: 51347]",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@security_options
def doctor(nodes: tuple[str, ...], dispy_port: int | None, as_json: bool, **options: Any) -> int:
    """Look for what keeps clients and nodes apart on this machine, and say what to do.

    Nothing is changed. Exit status: 0 nothing fails (there may be warnings), 1 something does, 2 wrong usage.
    """
    findings = list(examine(nodes, dispy_port, take_security(options).parameters()))
    if as_json:
        told = [
            {"check": one.check, "level": one.level.value, "text": one.text, "remedy": one.remedy or None}
            for one in findings
        ]
        click.echo(json.dumps(told, indent=2))
    else:
        show(findings)
    failed = any(one.level is Level.FAIL for one in findings)
    return exits.SOME_JOB_FAILED if failed else exits.SUCCESS


def examine(nodes: Sequence[str], dispy_port: int | None, security: dict[str, Any]) -> Iterator[Finding]:
    """Make all checks.

    Raises:
        UsageError: what was given cannot be right.
    """
    import dispy
    from dispy.errors import DispyError
    from dispy.model import AccessRole
    from dispy.plugins import PluginManager
    from dispy.runtime.trust import TrustStore, make_request
    from dispy_cli.checks import confinement, folders, installation, keys

    request = make_request(AccessRole.OBSERVE, **security)
    local, named = list_targets((), dispy_port), list_targets(nodes, dispy_port) if nodes else []
    yield from installation.check_versions(
        installation.own_distributions(), [installation.PREFIX + name for name in OWN]
    )
    yield from installation.check_original()
    yield from installation.check_shadows(sys.path, Path(dispy.__file__).parent)
    try:
        plugins = PluginManager.load()
    except DispyError as error:
        yield Finding("plugins", Level.FAIL, *split_remedy(error))
        return
    yield from installation.check_plugins(plugins.describe())
    trust = TrustStore(plugins).get(request)
    found = list(keys.check_trust(trust, _key_file(), os.environ))
    yield from found
    for folder, what in _folders():
        yield from folders.check_folder(folder, what)
    yield from _examine_network(
        plugins, trust, local, named, can_ask=trust.is_open or found[0].level is Level.OK
    )
    yield from confinement.check_bubblewrap()
    yield from confinement.check_cgroups()


def _examine_network(
    plugins: PluginManager, trust: Trust, local: Sequence[Any], named: Sequence[Any], *, can_ask: bool
) -> Iterator[Finding]:
    from dispy import config
    from dispy.runtime.dialer import LOCAL_TARGET
    from dispy.runtime.probe import Probed, probe_nodes
    from dispy_cli.checks import network, search
    from dispy_cli.surroundings import look_around

    interfaces = list_interfaces()
    yield from network.check_addresses(interfaces)
    targets = [one if one == LOCAL_TARGET else one._replace(trust=trust) for one in (*local, *named)]
    if can_ask:
        probed = probe_nodes(targets, plugins.transport)
    else:
        probed = [
            Probed(one, None, "", "it was not asked, as there is no key to ask with") for one in targets
        ]
    port = local[0].port
    why_not = network.can_listen(port)
    yield from network.check_port(port, probed[0], why_not)
    if why_not:
        yield from network.check_reachable(port, interfaces)
    yield from network.check_firewalls(port, config.client_port())
    if can_ask:
        yield from search.check_search(look_around(trust, plugins.discoveries))
    yield from search.check_search_ports(config.client_port(), port)
    yield from network.check_nodes(probed[1:])


def list_interfaces() -> Mapping[str, list[str]]:
    """Return name -> addresses of the interfaces; without psutil, the addresses that the host's name has."""
    if importlib.util.find_spec("psutil") is None:
        try:
            entries = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
        except OSError:
            entries = []
        return {socket.gethostname(): [str(entry[4][0]) for entry in entries]}
    psutil = importlib.import_module("psutil")
    families = (socket.AF_INET, socket.AF_INET6)
    return {
        name: [one.address for one in entries if one.family in families]
        for name, entries in psutil.net_if_addrs().items()
    }


def _key_file() -> Path | None:
    from dispy.errors import DispyError

    if importlib.util.find_spec("dispy_auth_secret") is None:
        return None
    try:
        path: Path = importlib.import_module("dispy_auth_secret.keyfile").key_path()
    except DispyError:
        return None  # using it says why
    return path


def _folders() -> Iterator[tuple[Path, str]]:
    """Give the folders that must be private, as far as there are any."""
    from dispy.errors import DispyError
    from dispy.private import config_folder

    try:
        yield config_folder(), "keys"
    except DispyError:
        pass  # there is no home folder; the check of the key says so
    if importlib.util.find_spec("dispy_node") is not None:
        home = importlib.import_module("dispy_node.settings").state_home()
        if home is not None:
            yield home / "dispy", "nodes"


def show(findings: Sequence[Finding]) -> None:
    """Print a line for each finding, and below it what to do; then how many there are."""
    for one in findings:
        click.echo(f"{one.level.value:4}  {one.check}: {printable(one.text)}")
        if one.remedy:
            for line in one.remedy.splitlines():
                click.echo(f"      -> {printable(line.strip())}")
    counts = Counter(one.level for one in findings)
    click.echo(", ".join(f"{counts[level]} {level.value}" for level in Level))
