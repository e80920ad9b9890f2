"""Where the socket is, and who is at its other end."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from dispy_node.control.place import MAX_PATH_BYTES, may_ask, peer_user, short_path


def test_short_path_is_the_socket_itself(tmp_path: Path) -> None:
    folder = Path("/short")
    with short_path(folder) as path:
        assert path == "/short/control"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_long_path_is_reached_by_a_shorter_one(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * MAX_PATH_BYTES)
    folder.mkdir()
    with short_path(folder) as path:
        assert len(path) < MAX_PATH_BYTES
        Path(path).write_text("here")
    assert (folder / "control").read_text() == "here"
    assert not os.path.exists(path)


def test_system_tells_who_is_there() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_user(ours) == os.geteuid()


def test_owner_and_root_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert [may_ask(user) for user in (1000, 0, 1001, None)] == [True, True, False, False]
