"""A node that belongs to one client on this machine: ``python -m dispy_node.embedded FD``.

Its only link is the socket that it inherits; it listens nowhere. It ends when the link ends, and since a killed
client closes its sockets, it cannot be left behind.
"""

from __future__ import annotations

import platform
import socket
import sys
from pathlib import Path

import trio

from dispy.interfaces import Peer
from dispy.plugins import PluginManager
from dispy.runtime.trust import OWN_CHILD
from dispy_node.avail import count_cpus
from dispy_node.daemon import NodeDaemon, NodeIdentity
from dispy_node.logs import set_up_logging
from dispy_node.secrecy import close_memory
from dispy_node.storage import StateFolder, StorageError
from dispy_node.temporary import temporary_folder


async def _serve(sock: socket.socket, folder: Path) -> None:
    state = StateFolder(folder)
    identity = NodeIdentity(name=platform.node() or "localhost", cpus=count_cpus(), addresses=("127.0.0.1",))
    plugins = PluginManager.load()
    async with trio.open_nursery() as nursery:
        daemon = NodeDaemon(identity, state, plugins.executor)
        await nursery.start(daemon.run)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        await daemon.serve_link(stream, Peer(host="127.0.0.1", is_local=True, identity=OWN_CHILD))
        nursery.cancel_scope.cancel()


def main(descriptor: int) -> None:
    """Serve the link on *descriptor* until it ends.

    Raises:
        SystemExit: the temporary folder cannot be used; the message is for the client's standard error.
    """
    close_memory()
    set_up_logging(level="warning", json_lines=False)
    try:
        with socket.socket(fileno=descriptor) as sock, temporary_folder() as folder:
            trio.run(_serve, sock, folder, strict_exception_groups=True)
    except StorageError as error:
        sys.exit(f"dispy: the node on this machine cannot start: {error} (for this one: set TMPDIR)")


if __name__ == "__main__":
    main(int(sys.argv[1]))
