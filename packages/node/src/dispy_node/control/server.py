"""The node's side of the socket: one answer for each line."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from dispy_node.control.place import NAME, may_ask, peer_user, short_path

log = logging.getLogger("dispy.node")

MAX_LINE_BYTES = 4096
REQUEST_S = 5.0
"""How long a request may take to arrive, and its answer to be taken."""

AnswerTo = Callable[[object], tuple[dict[str, Any], Callable[[], object] | None]]


@asynccontextmanager
async def control_socket(folder: Path, answer: AnswerTo) -> AsyncIterator[None]:
    """Answer requests at the socket in *folder*, which is ours alone; it is removed in the end.

    Without such a socket the node works all the same, so what keeps it from being made is logged.
    """
    try:
        listening = _listen(folder)
    except OSError as error:
        log.warning("`dispy node status` and its like cannot reach this node: %s", error.strerror or error)
        yield
        return
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.serve_listeners, partial(_serve, answer=answer), [listener]))
            yield
            nursery.cancel_scope.cancel()
    finally:
        with contextlib.suppress(OSError):
            (folder / NAME).unlink()


def _listen(folder: Path) -> socket.socket:
    """Make the socket; one that is there is of a node that was killed, as the folder is locked by us."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            (folder / NAME).unlink()
        with short_path(folder) as path:
            listening.bind(path)
            os.chmod(path, 0o600)
        listening.listen(8)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


async def _serve(stream: trio.SocketStream, *, answer: AnswerTo) -> None:
    """Serve one connection; what goes wrong with it ends nothing else."""
    async with stream:
        user = peer_user(stream.socket._sock)  # type: ignore[attr-defined]
        if not may_ask(user):
            log.warning("user %s may not command this node and is sent away", user)
            return
        with contextlib.suppress(trio.BrokenResourceError, trio.TooSlowError):
            rest = b""
            while line := await _read_line(stream, rest):
                told, rest = line
                try:
                    request = json.loads(told)
                except (ValueError, RecursionError):  # the latter by thousands of brackets
                    request = None
                try:
                    said, then = answer(request)
                except Exception:  # the node and its jobs go on, whatever is asked for
                    log.exception("a bug in dispy: a request of the node's owner could not be answered")
                    said, then = {"error": "the node could not answer: its log says more"}, None
                with trio.fail_after(REQUEST_S):
                    await stream.send_all(json.dumps(said).encode() + b"\n")
                if then is not None:
                    then()


async def _read_line(stream: trio.SocketStream, data: bytes) -> tuple[bytes, bytes] | None:
    """Read until the end of a line; give it and what came behind it, or None at the end or if it is too long.

    Raises:
        trio.TooSlowError: it does not come.
    """
    with trio.fail_after(REQUEST_S):
        while b"\n" not in data:
            part = await stream.receive_some(MAX_LINE_BYTES)
            if not part or len(data) + len(part) > MAX_LINE_BYTES:
                return None
            data += part
    line, _, rest = data.partition(b"\n")
    return line, rest
