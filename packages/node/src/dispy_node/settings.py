"""The settings of a node daemon: from the command line, from a TOML file, with the original's names and defaults."""

from __future__ import annotations

import dataclasses
import os
import platform
import tomllib
from dataclasses import dataclass
from pathlib import Path

from dispy import config
from dispy.errors import UsageError
from dispy.interfaces import Address
from dispy.sizes import parse_size


def state_home() -> Path | None:
    """Folder of the states of this user's programs; None if the user has no home folder."""
    state = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):  # by the XDG specification, anything else is as good as unset
        return Path(state)
    home = os.path.expanduser("~")
    if not os.path.isabs(home) or not os.path.isdir(home):
        return None
    return Path(home, ".local", "state")


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """All that can be set; see ``dispy node --help``."""

    cpus: int = 0
    host: tuple[str, ...] = ()
    ext_host: tuple[str, ...] = ()
    dispy_port: int = 51347
    name: str = ""
    dest_path_prefix: str = ""
    secret_file: str = ""
    certfile: str = ""
    keyfile: str = ""
    cafile: str = ""
    confine: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    resource: tuple[str, ...] = ()
    service_start: str = ""
    service_stop: str = ""
    service_end: str = ""
    serve: int = -1
    client_shutdown: bool = False
    zombie_interval: float = 60.0
    max_file_size: str = "0"
    force_cleanup: bool = False
    open: bool = False
    no_discovery: bool = False
    ping_interval: int = 0
    ipv4_udp_multicast: bool = False
    scheduler_host: tuple[str, ...] = ()
    debug: bool = False
    log_format: str = "human"

    @property
    def port(self) -> int:
        """Port to listen on: one above the base port, as in the original; 0 for any free one."""
        return self.dispy_port + 1 if self.dispy_port else 0

    @property
    def base_port(self) -> int:
        """Port at which clients hear of the node; it is asked at the one above, wherever it listens."""
        return self.dispy_port or config.port("DispyPort")

    def node_name(self) -> str:
        """Name that the node tells: the one given, or the host's."""
        return self.name or platform.node() or "localhost"

    def folder(self) -> Path | None:
        """Folder of the node's state; one per port, so that several nodes fit on one machine.

        None if none was named and the user has no home folder, as accounts of services often do.
        """
        if self.dest_path_prefix:
            return Path(self.dest_path_prefix).absolute() / "dispy" / "node"
        state = state_home()
        return None if state is None else state / "dispy" / f"node-{self.dispy_port}"

    def max_file_bytes(self) -> int:
        """Largest file that is taken, 0 for no limit.

        Raises:
            UsageError: it is no size.
        """
        return parse_size(self.max_file_size, "--max-file-size")

    def secret_paths(self) -> list[Path]:
        """Files that hold keys, as far as they were named."""
        named = (self.secret_file, self.certfile, self.keyfile)
        return [Path(name).expanduser().absolute() for name in named if name]

    def listen_addresses(self) -> list[Address]:
        """Addresses to listen on: ``tcp`` unless another scheme is written before them, as in ``unix:/run/node``."""
        addresses = []
        for host in self.host or ("0.0.0.0", "::"):
            scheme, _, path = host.partition(":")
            if path.startswith("/"):  # a path is of this machine, whatever the transport
                addresses.append(Address(scheme, path))
            else:
                addresses.append(Address("tcp", host, self.port))
        return addresses


def read_settings(path: Path) -> dict[str, object]:
    """Read a TOML file of settings; names as on the command line, with dashes or underscores.

    Raises:
        UsageError: the file cannot be read, is no TOML, or holds an unknown name or a value of the wrong type.
    """
    try:
        raw = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{str(path)!r} is not valid TOML: {error}") from error
    defaults = {field.name: field.default for field in dataclasses.fields(NodeSettings)}
    settings: dict[str, object] = {}
    for key, value in raw.items():
        name = key.replace("-", "_")
        if name not in defaults:
            raise UsageError(
                f"{str(path)!r} sets {key!r}, which does not exist; known: {', '.join(sorted(defaults))}"
            )
        if isinstance(defaults[name], tuple):
            value = tuple([value] if isinstance(value, str) else value)
        elif type(defaults[name]) is float and type(value) is int:
            value = float(value)
        elif type(value) is not type(defaults[name]):
            kind = type(defaults[name]).__name__
            raise UsageError(f"{str(path)!r} sets {key!r} to {value!r}, which is not of type {kind}")
        settings[name] = value
    return settings


def write_settings(path: Path, settings: NodeSettings) -> None:
    """Write *settings* as TOML.

    Raises:
        UsageError: the file cannot be written.
    """
    lines = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        lines.append(f"{field.name.replace('_', '-')} = {_as_toml(value)}\n")
    try:
        path.write_text("".join(lines))
    except OSError as error:
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror}") from error


def _as_toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(_as_toml(item) for item in value) + "]"
    if isinstance(value, str):
        escaped = "".join(
            f"\\u{ord(char):04x}" if ord(char) < 32 or char in '"\\\x7f' else char for char in value
        )
        return f'"{escaped}"'
    return str(value)
