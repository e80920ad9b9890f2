"""The socket of a node: lines of JSON, for its owner only."""

from __future__ import annotations

import json
import logging
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from dispy_node.control import server
from dispy_node.control.place import MAX_PATH_BYTES, NAME, short_path
from dispy_node.control.server import MAX_LINE_BYTES, control_socket

Talk = Callable[[trio.SocketStream], Awaitable[None]]


def serve(folder: Path, talk: Talk) -> list[object]:
    """Serve requests, and *talk*; give what was asked for and done."""
    done: list[object] = []

    def answer(request: object) -> tuple[dict[str, Any], Callable[[], object] | None]:
        done.append(request)
        return {"said": request}, (lambda: done.append("then")) if request == "end" else None

    async def main() -> None:
        async with control_socket(folder, answer):
            with short_path(folder) as path, socket.socket(socket.AF_UNIX) as plain:
                plain.connect(path)
                plain.setblocking(False)
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(plain))
                with trio.fail_after(20):
                    await talk(stream)

    trio.run(main, strict_exception_groups=True)
    return done


async def receive(stream: trio.SocketStream) -> bytes:
    data = b""
    while not data.endswith(b"\n") and (part := await stream.receive_some()):
        data += part
    return data


def test_each_line_is_answered(tmp_path: Path) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        for request in ({"do": "status"}, [1], "end", None):
            await stream.send_all(json.dumps(request).encode() + b"\n")
            assert json.loads(await receive(stream)) == {"said": request}

    assert serve(tmp_path, talk) == [{"do": "status"}, [1], "end", "then", None]
    assert not (tmp_path / NAME).exists()


def test_request_that_cannot_be_answered_ends_nothing(tmp_path: Path, caplog: Any) -> None:
    async def main() -> None:
        async with control_socket(tmp_path, lambda request: ({"quotient": 1 / request}, None)):  # type: ignore[operator]
            with short_path(tmp_path) as path, socket.socket(socket.AF_UNIX) as plain:
                plain.connect(path)
                plain.setblocking(False)
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(plain))
                with trio.fail_after(20):
                    for request, said in ((b"0\n", "error"), (b"2\n", "quotient")):
                        await stream.send_all(request)
                        assert list(json.loads(await receive(stream))) == [said]

    trio.run(main)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("line", [b"{", b"[" * 4000, b"\xff"], ids=lambda line: repr(line[:4]))
def test_what_is_no_json_is_an_unknown_request(tmp_path: Path, line: bytes) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(line + b"\n")
        assert json.loads(await receive(stream)) == {"said": None}

    assert serve(tmp_path, talk) == [None]


def test_line_without_an_end_is_not_gathered(tmp_path: Path) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        with pytest.raises(trio.BrokenResourceError):
            for _ in range(10_000):
                await stream.send_all(b"x" * MAX_LINE_BYTES)

    assert serve(tmp_path, talk) == []


def test_socket_is_for_the_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
        assert await receive(stream) == b""

    monkeypatch.setattr(server, "peer_user", lambda connection: 4711)
    monkeypatch.setattr(server, "may_ask", lambda user: user != 4711)
    assert serve(tmp_path, talk) == []
    assert "user 4711 may not command this node" in caplog.text


def test_socket_that_a_killed_node_has_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(tmp_path / NAME))

    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(b"1\n")
        assert await receive(stream)

    assert serve(tmp_path, talk) == [1]


def test_folder_with_a_long_name(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * MAX_PATH_BYTES)
    folder.mkdir()

    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(b"1\n")
        assert await receive(stream)

    assert serve(folder, talk) == [1]


def test_node_works_without_a_socket(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

    async def main() -> None:
        async with control_socket(tmp_path / "missing", lambda request: ({}, None)):
            await trio.lowlevel.checkpoint()

    trio.run(main)
    assert "cannot reach this node: No such file or directory" in caplog.text
