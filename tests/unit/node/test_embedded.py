"""The node that belongs to one client: it lives as long as its link. tests/e2e/test_jobs.py has it as a process."""

from __future__ import annotations

import socket
import tempfile
import threading
from pathlib import Path

import pytest
import trio

from dispy.interfaces import Peer
from dispy.model import LinkId, Role
from dispy.runtime.greeting import make_hello
from dispy.runtime.link import Link
from dispy.wire.messages import Hello
from dispy.wire.rights import EVERYTHING
from dispy.wire.session import Greeted, Session, SessionEvent
from dispy_node import embedded


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder where temporary files go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(embedded, "set_up_logging", lambda **options: None)
    monkeypatch.setattr(embedded, "close_memory", lambda: None)  # it would be that of the tests
    return tmp_path


def run_node(theirs: socket.socket) -> threading.Thread:
    node = threading.Thread(target=embedded.main, args=(theirs.detach(),), daemon=True)
    node.start()
    return node


def greet(ours: socket.socket) -> tuple[Hello | None, str]:
    """Take the node's greeting and leave."""

    async def main() -> tuple[Hello | None, str]:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        hello = make_hello(Role.CLIENT, "1" * 32, name="me")
        session = Session(hello, now=trio.current_time(), accepts=frozenset({Role.NODE}), roles=EVERYTHING)

        def take(link: Link, events: object) -> None:
            first: SessionEvent = events[0]  # type: ignore[index]
            if isinstance(first, Greeted):
                link.close_soon("that is all", final=True)

        with trio.fail_after(30):
            reason = await Link(LinkId(1), stream, Peer("127.0.0.1", is_local=True), session).run(take)
        return session.peer, reason

    return trio.run(main, strict_exception_groups=True)


def test_node_greets_and_ends_with_its_link_and_leaves_nothing(folder: Path) -> None:
    ours, theirs = socket.socketpair()
    node = run_node(theirs)
    hello, reason = greet(ours)
    assert hello is not None
    assert hello.role == Role.NODE
    assert hello.cpus >= 1
    assert hello.addresses == ["127.0.0.1"]
    assert reason == "that is all"
    node.join(30)
    assert not node.is_alive()
    assert list(folder.iterdir()) == []


def test_node_ends_when_the_client_is_gone_without_a_word(folder: Path) -> None:
    ours, theirs = socket.socketpair()
    node = run_node(theirs)
    ours.close()
    node.join(30)
    assert not node.is_alive()
    assert list(folder.iterdir()) == []


def test_folder_that_others_could_exchange_is_told_in_one_line(folder: Path) -> None:
    folder.chmod(0o777)
    ours, theirs = socket.socketpair()
    with ours, pytest.raises(SystemExit, match=rf"cannot start: .* chmod \+t {folder}; .*set TMPDIR\)$"):
        embedded.main(theirs.detach())
    assert list(folder.iterdir()) == []
