"""The contract suite of dispy, and what is special about Unix sockets."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from dispy_transport_unix.transport import UnixTransport

from dispy.errors import TransportError
from dispy.interfaces import Address, Peer
from dispy_testing.contracts import check_transport


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path, which may be longer than a Unix socket's path can be.
    with tempfile.TemporaryDirectory(prefix="dispy-") as name:
        yield Path(name)


async def ignore(_stream: trio.abc.Stream, _peer: Peer) -> None:
    """Handle a connection by doing nothing."""


def test_contract(folder: Path) -> None:
    address = Address("unix", str(folder / "node.sock"))
    nobody = Address("unix", str(folder / "nobody.sock"))
    trio.run(check_transport, UnixTransport, address, nobody, strict_exception_groups=True)


def test_socket_is_for_its_user_only_and_goes_away(folder: Path) -> None:
    path = folder / "node.sock"

    async def main() -> None:
        async with UnixTransport().listen([Address("unix", str(path))], ignore):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not path.exists()

    trio.run(main)


def test_socket_of_a_killed_node_is_replaced(folder: Path) -> None:
    path = folder / "node.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()

    async def main() -> None:
        with pytest.raises(
            TransportError, match=r"nobody listens on .*node.sock' any more: start the node again"
        ):
            await UnixTransport().dial(Address("unix", str(path)))
        async with UnixTransport().listen([Address("unix", str(path))], ignore) as bound:
            stream, peer = await UnixTransport().dial(bound[0])
            assert peer == Peer(str(path), is_local=True)
            await stream.aclose()

    trio.run(main)


def test_a_file_is_never_removed(folder: Path) -> None:
    path = folder / "precious"
    path.write_text("data")

    async def main() -> None:
        with pytest.raises(TransportError, match="is in use"):
            async with UnixTransport().listen([Address("unix", str(path))], ignore):
                raise AssertionError("not reached")

    trio.run(main)
    assert path.read_text() == "data"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing/node.sock", "there is no socket"),
        ("x" * 200, "cannot be used as a socket"),
        ("nul\0l", "is not the path of a socket"),
    ],
)
def test_hopeless_paths(folder: Path, path: str, message: str) -> None:
    async def main() -> None:
        address = Address("unix", os.path.join(folder, path))
        with pytest.raises(TransportError, match=message):
            await UnixTransport().dial(address)
        with pytest.raises(TransportError):
            async with UnixTransport().listen([address], ignore):
                raise AssertionError("not reached")

    trio.run(main)
