"""A node on this machine that belongs to this process and ends with it, also when it is killed.

The node is a child process that inherits one end of a socket pair, its only link: nobody else can reach it, and
when the other end closes, it ends.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys

import trio

from dispy.errors import PluginNotInstalled
from dispy.interfaces import Peer

LOCAL_HOST = "local"
"""What users write for the embedded node: ``nodes=["local"]``."""

SECRET_VARIABLE = "DISPY_SECRET"

END_S = 3.0
"""How long the node may take to end its jobs after the link is closed, before it is killed."""


def is_available() -> bool:
    """Tell whether dispy-node is installed here."""
    return importlib.util.find_spec("dispy_node") is not None


def _environment() -> dict[str, str]:
    """Give what the node inherits: not the secret, which it needs none of, and which its jobs could look for."""
    kept = {name: value for name, value in os.environ.items() if name != SECRET_VARIABLE}
    return {**kept, "PYTHONUNBUFFERED": "1"}


class EmbeddedNode:
    """The child process; make it by `start`."""

    def __init__(self, process: subprocess.Popen[bytes], stream: trio.SocketStream) -> None:
        self.process = process
        self.stream = stream
        self.peer = Peer(host="127.0.0.1", is_local=True)

    @classmethod
    def start(cls) -> EmbeddedNode:
        """Start the node; it greets when it is up.

        Raises:
            PluginNotInstalled: dispy-node is not installed.
            OSError: the process could not be started.
        """
        if not is_available():
            raise PluginNotInstalled("a node on this machine", "local")
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                # No thread is used here: this may happen while the interpreter ends (see resolver).
                process = subprocess.Popen(
                    [sys.executable, "-m", "dispy_node.embedded", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    # A terminal's Ctrl-C is for the program, which then ends the node in good order.
                    start_new_session=True,
                    env=_environment(),
                )
        except BaseException:
            ours.close()
            raise
        return cls(process, trio.SocketStream(trio.socket.from_stdlib_socket(ours)))

    async def wait_ended(self) -> None:
        """Wait until the process is gone, and kill it if it takes too long. Shielded and bounded by END_S."""
        with trio.CancelScope(shield=True):
            for _ in range(int(END_S / 0.02)):
                if self.process.poll() is not None:
                    return
                await trio.sleep(0.02)
            self.process.kill()
            self.process.wait()
