"""Finding the nodes of this user, and asking one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dispy.errors import DispyError, UsageError
from dispy_node.control import client
from dispy_node.control.client import Found, NoSuchNode, ask, choose_node, end_other, find_nodes
from dispy_node.control.place import NAME
from dispy_node.settings import NodeSettings

Answerer = Callable[..., Path]


@pytest.fixture
def answerer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answerer]:
    """Have a node of a port answer each connection with one line."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    opened: list[socket.socket] = []

    def make(port: int, data: bytes, then: Callable[[], object] = lambda: None) -> Path:
        folder = tmp_path / "dispy" / f"node-{port}"
        folder.mkdir(parents=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(folder / NAME))
        listening.listen()
        opened.append(listening)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(ConnectionError):
                    connection.recv(4096)
                    connection.sendall(data)
                then()

        threading.Thread(target=serve, daemon=True).start()
        return folder

    yield make
    for listening in opened:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def status(name: str, process: int = 5) -> dict[str, Any]:
    return {"node": name, "process": process, "addresses": ["tcp:0.0.0.0:51348"]}


def line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def test_nodes_of_all_ports_are_found(answerer: Answerer, tmp_path: Path) -> None:
    answerer(51347, line(status("b")))
    answerer(4000, line(status("a")))
    dead = tmp_path / "dispy" / "node-1"
    dead.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead / NAME))
    found = find_nodes(NodeSettings(), port_given=False)
    assert sorted(one.status["node"] for one in found) == ["a", "b"]
    (one,) = find_nodes(NodeSettings(dispy_port=4000), port_given=True)
    assert (one.status["node"], one.folder.name) == ("a", "node-4000")
    assert str(one) == "a (tcp:0.0.0.0:51348; process 5)"
    assert find_nodes(NodeSettings(dispy_port=1), port_given=True) == []


def test_node_with_a_folder_of_its_own(answerer: Answerer, tmp_path: Path) -> None:
    answerer(51347, line(status("b")))
    assert find_nodes(NodeSettings(dest_path_prefix=str(tmp_path / "else")), port_given=False) == []


def test_choosing() -> None:
    several = [Found(Path("1"), status("a")), Found(Path("2"), status("b", 6))]
    assert choose_node(several, "b") is several[1]
    assert choose_node(several[:1], "") is several[0]
    with pytest.raises(
        UsageError, match=r"choose one with --dispy_port or --name:\n  a \(.*\n  b \(.*process 6"
    ):
        choose_node(several, "")
    with pytest.raises(NoSuchNode, match=r"no node 'c' of this user runs here; there are: a \("):
        choose_node(several, "c")
    with pytest.raises(NoSuchNode, match="start one with `dispy node`"):
        choose_node([], "")


def test_refusals_and_broken_answers(answerer: Answerer) -> None:
    with pytest.raises(UsageError, match="that is too many"):
        ask(answerer(1, line({"error": "that is too many"})), {"do": "cpus"})
    with pytest.raises(NoSuchNode, match="has ended before it answered"):
        ask(answerer(2, b""), {"do": "cpus"})
    with pytest.raises(NoSuchNode, match="no node answers"):
        ask(Path("/nonexistent"), {"do": "cpus"})


def test_socket_of_somebody_else_is_told_nothing(answerer: Answerer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "peer_user", lambda connection: 4711)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NoSuchNode, match="user 4711: it is no node of yours"):
        ask(answerer(1, line(status("trap"))), {"do": "status"})


def test_node_in_the_way_is_ended(answerer: Answerer, monkeypatch: pytest.MonkeyPatch) -> None:
    def unlock() -> None:
        os.close(held)

    folder = answerer(1, line(status("old")), unlock)
    end_other(folder)  # nobody holds the lock, so nobody is asked
    held = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    end_other(folder)
    assert not client._is_locked(folder)


def test_node_in_the_way_that_does_not_end(answerer: Answerer, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = answerer(1, line(status("old")))
    monkeypatch.setattr(client, "END_S", 0.0)
    with open(folder / "lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DispyError, match="does not end: end its process by hand"):
            end_other(folder)
