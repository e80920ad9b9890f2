"""The driver with an engine that does what a test says; real sockets on loopback, networks as the test has them."""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dispy.discovery import DiscoveryKeys, DiscoveryScope
from dispy.errors import CredentialsError
from dispy_discovery_udp import driver as drivers
from dispy_discovery_udp.driver import Driver
from dispy_discovery_udp.engine.datagrams import Mode
from dispy_discovery_udp.engine.values import (
    DatagramReceived,
    Effect,
    Ended,
    Event,
    KeysChanged,
    PathsChanged,
    Shout,
    TellDeparted,
    TimePassed,
    Whisper,
)
from dispy_discovery_udp.interfaces import Path, list_paths

(LOOPBACK,) = list_paths(environment={"DISPY_INTERFACES": "lo"})
ABSENT = Path("eth9", "203.0.113.9", "203.0.113.255", 99, False)
KEYS = DiscoveryKeys(keys=(b"k" * 32,))


class Script:
    """Notes events; says what it was told to say at each."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.answers: dict[type, list[Effect]] = {}
        self.deadline = math.inf
        self.heard = trio.Event()

    def handle(self, event: Event, now: float) -> list[Effect]:
        self.events.append(event)
        if isinstance(event, TimePassed):
            self.deadline = math.inf
        if isinstance(event, DatagramReceived):
            self.heard.set()
        return self.answers.get(type(event), [])


class Scene:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths = [LOOPBACK]
        self.keys: DiscoveryKeys | CredentialsError = KEYS
        self.told: list[Effect] = []
        self.looked: list[list[str]] = []
        self.engine = Script()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = int(sock.getsockname()[1])
        monkeypatch.setattr(drivers, "list_paths", lambda hosts: self.paths)
        monkeypatch.setattr(drivers, "POLL_S", 0.02)

    def driver(self, clients: Sequence[str] = ()) -> Driver:
        scope = DiscoveryScope(self.give_keys, (self.port,), self.port)
        return Driver(
            self.engine, scope, [self.port], tell=self.told.append, looking=self.look, clients=clients
        )

    async def give_keys(self) -> DiscoveryKeys:
        await trio.lowlevel.checkpoint()
        if isinstance(self.keys, CredentialsError):
            raise self.keys
        return self.keys

    def look(self, paths: Sequence[Path]) -> None:
        self.looked.append([path.interface for path in paths])

    async def until(self, *kinds: type[Event]) -> None:
        """Wait until events of these kinds have come."""
        with trio.fail_after(5):
            while not set(kinds) <= set(map(type, self.engine.events)):
                await trio.sleep(0.005)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def run(main) -> None:
    trio.run(main, strict_exception_groups=True)


def test_shouts_are_heard_and_answered_and_the_last_word_is_sent(scene: Scene) -> None:
    async def main() -> None:
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        other.bind(("127.0.0.1", 0))
        other.setblocking(False)
        with other:
            async with trio.open_nursery() as nursery:
                driver = scene.driver()
                nursery.start_soon(driver.run, KEYS)
                await scene.until(PathsChanged)
                scene.engine.answers[TimePassed] = [Shout(b"hello", scene.port), TellDeparted("it", 1)]
                driver.handle(TimePassed())
                await scene.until(DatagramReceived)
                heard = next(event for event in scene.engine.events if isinstance(event, DatagramReceived))
                assert heard.data == b"hello"
                assert heard.source.host == "127.0.0.1"
                assert heard.source.is_own
                assert scene.told == [TellDeparted("it", 1)]
                target = type(heard.source)(heard.source.path, "127.0.0.1", other.getsockname()[1])
                scene.engine.answers[TimePassed] = [
                    Whisper(b"psst", target),
                    Whisper(b"lost", type(target)("", "", 1)),
                ]
                driver.handle(TimePassed())
                await trio.lowlevel.wait_readable(other)
                data, address = other.recvfrom(100)
                assert data == b"psst"
                assert address[1] == heard.source.port
                scene.engine.answers[Ended] = [Whisper(b"farewell", target)]
                nursery.cancel_scope.cancel()
            assert other.recv(100) == b"farewell"

    run(main)
    assert scene.looked == [["lo"]]


def test_deadlines_of_the_engine_are_kept(scene: Scene) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            scene.engine.deadline = trio.current_time() + 0.03
            nursery.start_soon(scene.driver().run, KEYS)
            await scene.until(TimePassed)
            nursery.cancel_scope.cancel()

    run(main)


def test_networks_that_go_and_come_are_told(scene: Scene) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.driver().run, KEYS)
            await scene.until(PathsChanged)
            scene.paths = []
            with trio.fail_after(5):
                while scene.looked != [["lo"], []]:
                    await trio.sleep(0.005)
            scene.engine.events.clear()
            scene.paths = [LOOPBACK]
            await scene.until(PathsChanged)
            assert scene.looked == [["lo"], [], ["lo"]]
            nursery.cancel_scope.cancel()

    run(main)


def test_network_that_cannot_be_used_is_told_once_and_tried_again(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        scene.paths = [ABSENT, LOOPBACK]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.driver().run, KEYS)
            await scene.until(PathsChanged)
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()

    with caplog.at_level(logging.WARNING):
        run(main)
    assert caplog.text.count("network eth9 (203.0.113.9) cannot be used to find nodes") == 1
    assert scene.looked == [["lo"]]


def test_other_keys_are_told_and_bad_ones_complained_of_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.driver().run, KEYS)
            await scene.until(PathsChanged)
            scene.keys = CredentialsError("the key file is empty")
            await trio.sleep(0.1)
            assert not any(isinstance(event, KeysChanged) for event in scene.engine.events)
            scene.keys = DiscoveryKeys(is_open=True)
            await scene.until(KeysChanged)
            nursery.cancel_scope.cancel()

    with caplog.at_level(logging.WARNING):
        run(main)
    (changed,) = [event for event in scene.engine.events if isinstance(event, KeysChanged)]
    assert changed.ring.mode is Mode.OPEN
    assert caplog.text.count("the key file is empty") == 1


def test_what_cannot_be_sent_is_told_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            driver = scene.driver(
                clients=["203.0.113.1", "fd00::1"]
            )  # not of loopback, so nothing is sent there
            nursery.start_soon(driver.run, KEYS)
            await scene.until(PathsChanged)
            scene.engine.answers[TimePassed] = [Shout(b"x" * 70_000, scene.port)]
            driver.handle(TimePassed())
            driver.handle(TimePassed())
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    with caplog.at_level(logging.WARNING):
        run(main)
    assert caplog.text.count("did not take a datagram") == 1
