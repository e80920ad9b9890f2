"""Each rule of the contract of discoveries, shown by one that breaks it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import trio
from trio.testing import MockClock

from dispy.discovery import (
    Discovery,
    DiscoveryKeys,
    DiscoveryListener,
    DiscoveryScope,
    Presence,
    Sighting,
)
from dispy.interfaces import API_VERSION
from dispy_testing.contracts import ContractViolation, check_discovery


@dataclass
class Board:
    """Where those who keep the contract write down who is there."""

    present: dict[str, tuple[DiscoveryKeys, Presence]] = field(default_factory=dict)
    searches: list[tuple[DiscoveryKeys, DiscoveryListener]] = field(default_factory=list)


class Good(Discovery):
    NAME: ClassVar[str] = "board"
    API_VERSION: ClassVar[int] = API_VERSION
    BOARD: ClassVar[Board] = Board()

    def fits(self, ours: DiscoveryKeys, theirs: DiscoveryKeys) -> bool:
        return ours.is_open == theirs.is_open and (ours.is_open or bool(set(ours.keys) & set(theirs.keys)))

    def sighting(self, presence: Presence) -> Sighting:
        return Sighting(presence.ident, presence.epoch, presence.port, ("10.0.0.1",))

    def part(self, presence: Presence, listener: DiscoveryListener) -> None:
        listener.departed(presence.ident, presence.epoch)

    async def search(self, scope: DiscoveryScope, listener: DiscoveryListener) -> None:
        keys = await scope.keys()
        listener.looking(["a board"], is_local=True)
        self.BOARD.searches.append((keys, listener))
        try:
            for theirs, presence in self.BOARD.present.values():
                if self.fits(keys, theirs):
                    listener.sighted(self.sighting(presence))
                else:
                    listener.refused("10.0.0.1", "another key")
            await trio.sleep_forever()
        finally:
            self.BOARD.searches.remove((keys, listener))

    async def announce(self, scope: DiscoveryScope, presence: Presence) -> None:
        keys = await scope.keys()
        self.BOARD.present[presence.ident] = (keys, presence)
        for theirs, listener in self.BOARD.searches:
            if self.fits(theirs, keys):
                listener.sighted(self.sighting(presence))
        try:
            await trio.sleep_forever()
        finally:
            del self.BOARD.present[presence.ident]
            for theirs, listener in self.BOARD.searches:
                if self.fits(theirs, keys):
                    self.part(presence, listener)


class Credulous(Good):
    def fits(self, ours: DiscoveryKeys, theirs: DiscoveryKeys) -> bool:
        return True


class Mixing(Good):
    def fits(self, ours: DiscoveryKeys, theirs: DiscoveryKeys) -> bool:
        return ours.is_open != theirs.is_open or super().fits(ours, theirs)


class OnlyFirst(Good):
    def fits(self, ours: DiscoveryKeys, theirs: DiscoveryKeys) -> bool:
        return ours.keys[:1] == theirs.keys[:1]


class WrongPort(Good):
    def sighting(self, presence: Presence) -> Sighting:
        return Sighting(presence.ident, presence.epoch, 1, ("10.0.0.1",))


class Nowhere(Good):
    def sighting(self, presence: Presence) -> Sighting:
        return Sighting(presence.ident, presence.epoch, presence.port, ())


class Silent(Good):
    def part(self, presence: Presence, listener: DiscoveryListener) -> None:
        pass


class Twice(Good):
    def part(self, presence: Presence, listener: DiscoveryListener) -> None:
        super().part(presence, listener)
        super().part(presence, listener)


class Hasty(Good):
    async def search(self, scope: DiscoveryScope, listener: DiscoveryListener) -> None:
        for theirs, presence in self.BOARD.present.values():
            if self.fits(await scope.keys(), theirs):
                listener.sighted(self.sighting(presence))


class Stubborn(Good):
    async def announce(self, scope: DiscoveryScope, presence: Presence) -> None:
        try:
            await super().announce(scope, presence)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)


class Single(Good):
    async def search(self, scope: DiscoveryScope, listener: DiscoveryListener) -> None:
        listener.looking("a board", is_local=True)
        await trio.lowlevel.checkpoint()


class Mute(Good):
    async def search(self, scope: DiscoveryScope, listener: DiscoveryListener) -> None:
        listener.refused("10.0.0.1", "")
        await trio.lowlevel.checkpoint()


async def no_keys() -> DiscoveryKeys:
    raise AssertionError("the contract has keys of its own")


def check(discovery: type[Discovery]) -> None:
    Good.BOARD.present.clear()
    Good.BOARD.searches.clear()
    scope = DiscoveryScope(no_keys, (51348,), 51347)
    main: Callable[..., Awaitable[None]] = check_discovery
    trio.run(main, discovery, scope, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


def test_what_keeps_the_rules_passes() -> None:
    check(Good)


@pytest.mark.parametrize(
    ("discovery", "rule"),
    [
        (Credulous, "a search must find nodes that share its key, and no others"),
        (Mixing, "a search must find nodes that share its key, and no others"),
        (OnlyFirst, "every search with the key of a node must find it, but 'ours' was not found"),
        (WrongPort, "epoch and port must be as announced"),
        (Nowhere, "a sighting must have an address"),
        (Silent, "the end of a node must be told"),
        (Twice, "the end of a node must be told once for each of its epochs"),
        (Hasty, "search must go on until it is cancelled"),
        (Stubborn, "announce must end within 1 s when it is cancelled"),
        (Single, "looking must get a list of texts, not 'a board'"),
        (Mute, "refused must tell the user why 10.0.0.1 does not belong to us"),
    ],
)
def test_violations_are_named(discovery: type[Discovery], rule: str) -> None:
    with pytest.raises(ContractViolation, match=rule):
        check(discovery)
