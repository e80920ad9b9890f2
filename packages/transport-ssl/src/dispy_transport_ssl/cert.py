"""``dispy cert``: a private certificate authority, and certificates for nodes and users."""

from __future__ import annotations

import datetime
import shlex
from pathlib import Path

import click

from dispy.errors import UsageError
from dispy.model import AccessRole
from dispy.private import config_folder
from dispy_transport_ssl import certificates
from dispy_transport_ssl.authority import CA_FILE, CA_KEY_FILE, AuthorityFolder, Entry

YEARS = 10.0
"""How long an authority lasts, unless told otherwise."""

DAYS = 365.0
"""How long a certificate lasts, unless told otherwise; of that many, each can be renewed."""


@click.group("cert", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the authority.  [default: certs in the folder of dispy's configuration]",
)
@click.pass_context
def cert(context: click.Context, folder: Path | None) -> None:
    """Make a certificate authority of your own, and certificates for nodes and users.

    \b
      dispy cert init
      dispy cert issue alpha --role node
      dispy cert issue mary --role submit

    A shared key (`dispy key`) is simpler. Certificates give each user and each node rights of its own.
    """
    context.obj = AuthorityFolder(
        folder or config_folder() / "certs", datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    )


@cert.command("init")
@click.option("--name", default="dispy authority", show_default=True, help="Its name, for people.")
@click.option(
    "--years", type=click.FloatRange(min=0, min_open=True, max=100), default=YEARS, show_default=True
)
@click.pass_obj
def init(folder: AuthorityFolder, name: str, years: float) -> None:
    """Make the authority."""
    if not 0 < len(name.encode()) <= certificates.NAME_BYTES:
        raise UsageError(f"{name!r} cannot be its name: use 1 to {certificates.NAME_BYTES} letters")
    entry = folder.init(name, years=years)
    click.echo(f"Authority {entry.name!r} ({entry.fingerprint}), valid until {entry.expires:%Y-%m-%d}:")
    click.echo(f"    {entry.path}    give a copy to everybody who takes part")
    click.echo(f"    {folder.path / CA_KEY_FILE}    keep to yourself: who has it can issue any certificate")
    click.echo("Next: dispy cert issue NAME --role node")


_days_range = click.FloatRange(min=0, min_open=True, max=36525)


@cert.command("issue")
@click.argument("name")
@click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    type=click.Choice([role.value for role in AccessRole]),
    help="What its owner may do (repeatable): node runs jobs, observe sees what runs, submit runs computations, "
    "operate manages nodes and the jobs of others, admin does everything that a client can do.",
)
@click.option("--days", type=_days_range, default=DAYS, show_default=True, help="How long it is valid.")
@click.pass_obj
def issue(folder: AuthorityFolder, name: str, roles: tuple[str, ...], days: float) -> None:
    """Make the certificate and the key of NAME."""
    _tell(folder.issue(name, roles=[AccessRole(role) for role in roles], days=days))


@cert.command("renew")
@click.argument("name")
@click.option("--days", type=_days_range, help="How long it is valid.  [default: as long as the old one was]")
@click.pass_obj
def renew(folder: AuthorityFolder, name: str, days: float | None) -> None:
    """Make another certificate and key for NAME, with the same roles; copy the file to its machine again."""
    _tell(folder.renew(name, days=days))


def _tell(entry: Entry) -> None:
    ca_path = entry.path.with_name(CA_FILE)
    click.echo(
        f"Certificate {entry.name!r} ({entry.fingerprint}), roles {', '.join(entry.role_names)}, "
        f"valid until {entry.expires:%Y-%m-%d}:"
    )
    click.echo(f"    {entry.path}    certificate and key")
    click.echo(
        "Copy it and the authority's certificate to its machine (scp keeps them closed to others with -p):"
    )
    click.echo(f"    scp -p {shlex.quote(str(entry.path))} {shlex.quote(str(ca_path))} MACHINE:")
    click.echo("There:")
    if AccessRole.NODE.value in entry.role_names:
        click.echo(f"    dispy node --certfile {entry.path.name} --cafile {CA_FILE}")
    if set(entry.role_names) - {AccessRole.NODE.value}:
        click.echo(f'    JobCluster(..., certfile="{entry.path.name}", cafile="{CA_FILE}")')


@cert.command("list")
@click.pass_obj
def list_(folder: AuthorityFolder) -> None:
    """List the certificates: name, fingerprint, roles, when they expire, days left."""
    now = datetime.datetime.now(datetime.UTC)
    rows = [("NAME", "FINGERPRINT", "ROLES", "EXPIRES", "DAYS LEFT")]
    for entry in folder.entries():
        left = (entry.expires - now).days
        rows.append(
            (
                entry.path.stem,
                entry.fingerprint,
                ", ".join(entry.role_names) or ("(authority)" if entry.path.name == CA_FILE else "-"),
                f"{entry.expires:%Y-%m-%d}",
                str(left) if left >= 0 else "expired",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
