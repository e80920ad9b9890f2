"""A listening node from its start to its end, on the in-memory network. tests/e2e/test_node.py has it as a process."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dispy.errors import (
    CredentialsError,
    DispyError,
    SecurityError,
    TransportError,
    UnknownKey,
    UsageError,
)
from dispy.interfaces import Address, Credential, Identity, SecurityRequest
from dispy.model import AccessRole, LinkId, Role
from dispy.plugins import PluginManager
from dispy.runtime import trust
from dispy.runtime.door import STRANGER_S
from dispy.runtime.greeting import make_hello
from dispy.runtime.link import Link
from dispy.runtime.trust import Trust
from dispy.wire.rights import EVERYTHING
from dispy.wire.session import Greeted, Session
from dispy_node import service
from dispy_node.daemon import NodeDaemon
from dispy_node.service import choose_trust, serve
from dispy_node.settings import NodeSettings
from dispy_node.storage import StateFolder, StorageError
from dispy_testing.memory import MemoryNetwork

HOST = "127.0.0.1"
NODE = Address("memory", HOST, 51348)

Script = Callable[[MemoryNetwork], Awaitable[None]]
Play = Callable[..., None]


class Plugins:
    """What is installed: a network in memory under every scheme."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network

    def transport(self, scheme: str) -> Any:
        return self.network.transport(HOST)

    def executor(self, name: str) -> Any:
        raise UsageError(f"no executor {name!r} here")

    def credentials(self, name: str) -> Any:
        return FakeCredentials()

    def security(self, name: str) -> Any:
        return FakeSecurity()


class FakeCredentials:
    """The key of the user, or what was given."""

    error: DispyError | None = None

    def load(self, request: SecurityRequest) -> list[Credential]:
        if self.error is not None:
            raise self.error
        return [Credential(f"key {request.secret or 'of the user'}", b"", b"", b"")]


class FakeSecurity:
    """Whoever says "key" has it."""

    async def accept(
        self, stream: trio.abc.Stream, credentials: Sequence[Credential], *, wants: frozenset[AccessRole]
    ) -> tuple[trio.abc.Stream, Identity]:
        if await stream.receive_some(3) != b"key":
            raise UnknownKey("the two have no key in common")
        return stream, Identity(credentials[0].name, frozenset({AccessRole.SUBMIT}))


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Run a node with settings, and a script beside it; the script must see to its end."""

    async def load(self: Trust) -> list[Sequence[Credential]]:
        await trio.lowlevel.checkpoint()
        return self.load()  # a thread would take real time, in which the virtual one runs away

    monkeypatch.setattr(Trust, "_load", load)

    def play(script: Script, **settings: Any) -> None:
        async def main() -> None:
            network = MemoryNetwork()
            monkeypatch.setattr(PluginManager, "load", lambda: Plugins(network))
            settings.setdefault("dest_path_prefix", str(tmp_path))
            settings.setdefault("host", (HOST,))
            settings.setdefault("open", True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, NodeSettings(cpus=1, **settings))
                await wait_all_tasks_blocked()
                await script(network)

        trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)

    return play


async def greet(network: MemoryNetwork, proof: bytes = b"") -> str:
    """Connect as a client; return the node's name."""
    stream, peer = await network.transport("laptop").dial(NODE)
    await stream.send_all(proof)
    session = Session(
        make_hello(Role.CLIENT, "1" * 32, name="me"),
        now=trio.current_time(),
        accepts=frozenset({Role.NODE}),
        roles=EVERYTHING,
    )
    link = Link(LinkId(1), stream, peer, session)

    def take(link: Link, events: Any) -> None:
        if isinstance(events[0], Greeted):
            link.close_soon("that is all", final=True)

    await link.run(take)
    assert session.peer is not None
    return session.peer.name


def test_node_listens_serves_and_ends_at_a_signal(
    play: Play, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def script(network: MemoryNetwork) -> None:
        assert await greet(network) == "worker"
        signal.raise_signal(signal.SIGTERM)
        await wait_all_tasks_blocked()
        with pytest.raises(TransportError):
            await network.transport("laptop").dial(NODE)

    play(script, name="worker")
    assert "node worker listens on" in caplog.text
    assert "SIGTERM: taking no more jobs" in caplog.text
    assert "node worker has ended" in caplog.text
    StateFolder(NodeSettings(dest_path_prefix=str(tmp_path)).folder()).close()  # it is not locked any more


def test_second_signal_ends_it_at_once(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def busy(self: NodeDaemon) -> None:
        self.drain_begun.set()  # jobs that run go on for ever

    monkeypatch.setattr(NodeDaemon, "drain", busy)

    async def script(network: MemoryNetwork) -> None:
        signal.raise_signal(signal.SIGINT)
        await trio.sleep(100)
        assert await greet(network)
        signal.raise_signal(signal.SIGINT)

    play(script)
    assert "SIGINT again: ending at once" in caplog.text


def test_signal_while_it_cleans_up_does_not_kill_it(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    killed: list[int] = []
    close = StateFolder.close

    def slow_close(self: StateFolder) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        ends_at = time.monotonic() + 5
        while "ending already" not in caplog.text and not killed and time.monotonic() < ends_at:
            time.sleep(0.01)
        close(self)

    async def script(network: MemoryNetwork) -> None:
        signal.raise_signal(signal.SIGTERM)
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(StateFolder, "close", slow_close)
    before = signal.signal(signal.SIGTERM, lambda number, frame: killed.append(number))
    try:
        play(script)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert killed == []
    assert "SIGTERM: ending already" in caplog.text
    assert "has ended" in caplog.text


def test_node_without_a_place_of_its_own_tells_where_it_is(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", "/nonexistent/home")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found: list[Path] = []

    async def script(network: MemoryNetwork) -> None:
        found.extend(tmp_path.iterdir())
        signal.raise_signal(signal.SIGTERM)
        await trio.lowlevel.checkpoint()

    play(script, dest_path_prefix="")
    (folder,) = found
    assert f"has no home folder, so the node's files are in {folder}" in caplog.text
    assert not list(tmp_path.iterdir())


def test_open_node_warns(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    async def script(network: MemoryNetwork) -> None:
        signal.raise_signal(signal.SIGTERM)
        await trio.lowlevel.checkpoint()

    play(script, open=True, host=(HOST,))
    assert "THIS NODE IS OPEN" in caplog.text


def test_bug_in_one_connection_leaves_the_node_there(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bugs = [RuntimeError("a bug")]
    make = service.NodeDaemon._serve_link

    async def buggy(self: NodeDaemon, *arguments: Any) -> str:
        if bugs:
            raise bugs.pop()
        return await make(self, *arguments)

    monkeypatch.setattr(NodeDaemon, "_serve_link", buggy)

    async def script(network: MemoryNetwork) -> None:
        stream, _peer = await network.transport("laptop").dial(NODE)
        assert await stream.receive_some() == b""
        await stream.aclose()
        assert await greet(network)
        signal.raise_signal(signal.SIGTERM)

    play(script)
    assert "RuntimeError: a bug" in caplog.text


def test_node_asks_for_a_key_unless_it_is_open(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def script(network: MemoryNetwork) -> None:
        assert await greet(network, b"key") == "worker"
        stream, _peer = await network.transport("laptop").dial(NODE)
        await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
        assert await stream.receive_some() == b""
        await stream.aclose()
        signal.raise_signal(signal.SIGTERM)

    play(script, name="worker", open=False)
    assert "connections are secured by key of the user" in caplog.text
    assert "at laptop connected (key of the user; dispy" in caplog.text
    assert "connection from laptop refused: the two have no key in common" in caplog.text
    assert "OPEN" not in caplog.text


def test_stranger_who_says_nothing_is_shown_out(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def script(network: MemoryNetwork) -> None:
        stream, _peer = await network.transport("laptop").dial(NODE)
        began = trio.current_time()
        assert await stream.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(STRANGER_S)
        await stream.aclose()
        signal.raise_signal(signal.SIGTERM)

    play(script, open=False)
    assert caplog.text.count("connection from laptop") == 1
    assert "connection from laptop refused: it did not prove who it is in time" in caplog.text


def test_who_proves_a_key_and_says_nothing_more_is_shown_out(play: Play) -> None:
    async def script(network: MemoryNetwork) -> None:
        stream, _peer = await network.transport("laptop").dial(NODE)
        began = trio.current_time()
        with trio.fail_after(STRANGER_S * 2):
            while await stream.receive_some():
                pass
        assert trio.current_time() - began <= STRANGER_S * 1.1
        await stream.aclose()
        signal.raise_signal(signal.SIGTERM)

    play(script, open=True)


def test_bad_key_file_fills_no_log(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def script(network: MemoryNetwork) -> None:
        monkeypatch.setattr(FakeCredentials, "error", CredentialsError("others can read it"))
        monkeypatch.setattr(trust, "FRESH_S", 0)
        for _ in range(30):
            stream, _peer = await network.transport("laptop").dial(NODE)
            assert await stream.receive_some() == b""
            await stream.aclose()
        signal.raise_signal(signal.SIGTERM)

    play(script, open=False)
    assert caplog.text.count("nobody can connect: others can read it") == 1


def test_what_is_wrong_with_keys_is_told_at_the_start(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeCredentials, "error", CredentialsError("others can read it"))
    with pytest.raises(ExceptionGroup) as caught:
        play(never, open=False)
    assert caught.group_contains(CredentialsError, match="others can read it")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", [(), ("0.0.0.0",), ("::",), ("laptop",), ("127.0.0.1", "laptop")])
def test_open_node_does_not_listen_on_a_public_address_by_other_names(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: tuple[str, ...]
) -> None:
    known = {"127.0.0.1": ["127.0.0.1"]}
    monkeypatch.setattr(service, "listening_addresses", lambda host: known.get(host, ["10.0.0.1", "8.8.4.4"]))
    with pytest.raises(ExceptionGroup) as caught:
        play(never, host=host)
    name = host[-1] if host else "0.0.0.0"
    match = (
        f"listening on {name}: 8.8.4.4 is a public address, .*; or name addresses that are not public with -i"
    )
    assert caught.group_contains(SecurityError, match=match)
    assert list(tmp_path.iterdir()) == []
    plugins: Any = Plugins(MemoryNetwork())
    assert not choose_trust(NodeSettings(host=host), plugins).is_open, "with a key it may"


def test_open_node_may_listen_on_what_is_not_public(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        service, "listening_addresses", lambda host: asked.append(host) or ["10.0.0.1", "fe80::1"]
    )
    plugins: Any = Plugins(MemoryNetwork())
    assert choose_trust(NodeSettings(open=True, host=("unix:/run/node", "::")), plugins).is_open
    assert asked == ["::"]


def test_secret_that_is_given_counts() -> None:
    plugins: Any = Plugins(MemoryNetwork())
    assert choose_trust(NodeSettings(), plugins, "hush").describe() == "key hush"
    both = choose_trust(NodeSettings(certfile="/c"), plugins, "hush")
    assert (both.describe().count(" and "), both.is_explicit) == (1, True)
    assert not choose_trust(NodeSettings(), plugins).is_explicit
    assert choose_trust(NodeSettings(open=True), plugins).is_open


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (NodeSettings(open=True), "--open and --secret exclude each other"),
        (NodeSettings(secret_file="/f"), "secret and secret_file exclude each other"),
    ],
)
def test_secret_that_contradicts_the_settings_is_refused(settings: NodeSettings, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_trust(settings, Plugins(MemoryNetwork()), "hush")  # type: ignore[arg-type]


async def never(network: MemoryNetwork) -> None:
    await trio.lowlevel.checkpoint()


def test_folder_in_use_is_told(play: Play, tmp_path: Path) -> None:
    held = StateFolder(NodeSettings(dest_path_prefix=str(tmp_path)).folder())
    try:
        with pytest.raises(ExceptionGroup) as caught:
            play(never)
        assert caught.group_contains(StorageError, match="is used by another node")
    finally:
        held.close()


def test_port_in_use_is_told_and_the_folder_is_unlocked(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_use(self: MemoryNetwork, host: str, address: Address, accept: object) -> Address:
        raise TransportError("port 51348 is in use")

    monkeypatch.setattr(MemoryNetwork, "bind", in_use)
    with pytest.raises(ExceptionGroup) as caught:
        play(never)
    assert caught.group_contains(TransportError, match="is in use")
    StateFolder(NodeSettings(dest_path_prefix=str(tmp_path)).folder()).close()


def test_settings_that_do_not_fit_are_refused_before_anything_is_touched(play: Play, tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        play(never, host=("8.8.8.8",))
    assert caught.group_contains(SecurityError, match="8.8.8.8 is a public address")
    assert list(tmp_path.iterdir()) == []
