"""What every way to find nodes must do."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from dispy.discovery import Discovery, DiscoveryKeys, DiscoveryScope, Presence, Sighting
from dispy_testing.contracts.rules import check_identity, patience, require, unwrapping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OURS = DiscoveryKeys(keys=(b"\x01" * 32,))
OLD_AND_OURS = DiscoveryKeys(keys=(b"\x03" * 32, b"\x01" * 32))
THEIRS = DiscoveryKeys(keys=(b"\x02" * 32,))
OPEN = DiscoveryKeys(is_open=True)

QUIET_S = 0.5
"""How long it is looked whether something happens that must not."""

END_S = 1.0
"""How long a cancelled search or announcement may take to end."""


class _Listener:
    """Keeps what a search tells."""

    def __init__(self) -> None:
        self.sightings: dict[str, Sighting] = {}
        self.departures: list[tuple[str, int]] = []
        self.has_looked = trio.Event()
        self._news = trio.Event()

    def looking(self, places: Sequence[str], *, is_local: bool) -> None:
        require(not isinstance(places, str), f"looking must get a list of texts, not {places!r}")
        self.has_looked.set()

    def sighted(self, sighting: Sighting) -> None:
        require(bool(sighting.addresses), f"a sighting must have an address: {sighting}")
        for address in sighting.addresses:
            ipaddress.ip_address(address.partition("%")[0])
        self.sightings[sighting.ident] = sighting
        self._tell()

    def departed(self, ident: str, epoch: int) -> None:
        self.departures.append((ident, epoch))
        self._tell()

    def refused(self, host: str, reason: str) -> None:
        require(bool(reason), f"refused must tell the user why {host} does not belong to us")

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._news.wait()


async def check_discovery(make_discovery: Callable[[], Discovery], scope: DiscoveryScope) -> None:
    """Check a way to find nodes; run it with `trio.run`, or in a test under trio.

    Args:
        make_discovery: the class, or a function that gives a new one.
        scope: where nodes that this very machine announces are found; its keys are not used. Nobody else may announce
            nodes there meanwhile.

    Raises:
        ContractViolation: it breaks a rule of `dispy.discovery.Discovery`.
    """
    check_identity(type(make_discovery()), Discovery)
    with unwrapping():
        await _check_who_finds_whom(make_discovery, scope)
        await _check_news(make_discovery, scope)


async def _check_who_finds_whom(make: Callable[[], Discovery], scope: DiscoveryScope) -> None:
    async with (
        _announcing(make, scope, OURS, Presence("ours", 1, 4001)),
        _announcing(make, scope, THEIRS, Presence("theirs", 1, 4002)),
        _announcing(make, scope, OPEN, Presence("open", 1, 4003)),
        _searching(make, scope, OLD_AND_OURS) as ours,
        _searching(make, scope, OLD_AND_OURS) as another,
        _searching(make, scope, OPEN) as opened,
    ):
        for listener, ident, port in ((ours, "ours", 4001), (another, "ours", 4001), (opened, "open", 4003)):
            with patience(f"every search with the key of a node must find it, but {ident!r} was not found"):
                await listener.wait_until(lambda listener=listener, ident=ident: ident in listener.sightings)  # type: ignore[misc]
            found = listener.sightings[ident]
            require(
                (found.epoch, found.port) == (1, port), f"epoch and port must be as announced, not {found}"
            )
        await trio.sleep(QUIET_S)
        for listener, ident in ((ours, "ours"), (another, "ours"), (opened, "open")):
            require(
                set(listener.sightings) == {ident},
                f"a search must find nodes that share its key, and no others, but found {set(listener.sightings)}",
            )


async def _check_news(make: Callable[[], Discovery], scope: DiscoveryScope) -> None:
    async with _searching(make, scope, OURS) as listener:
        for epoch in (1, 2):
            async with _announcing(make, scope, OURS, Presence("late", epoch, 4001)):
                with patience("a node that starts while others search must be found"):
                    await listener.wait_until(
                        lambda epoch=epoch: (
                            "late" in listener.sightings  # type: ignore[misc]
                            and listener.sightings["late"].epoch == epoch
                        )
                    )
            with patience("the end of a node must be told"):
                await listener.wait_until(lambda epoch=epoch: ("late", epoch) in listener.departures)  # type: ignore[misc]
        require(
            listener.departures == [("late", 1), ("late", 2)],
            f"the end of a node must be told once for each of its epochs, not as {listener.departures}",
        )


def _searching(
    make: Callable[[], Discovery], scope: DiscoveryScope, keys: DiscoveryKeys
) -> AbstractAsyncContextManager[_Listener]:
    listener = _Listener()
    return _running(lambda: make().search(_with(scope, keys), listener), "search", listener)


def _announcing(
    make: Callable[[], Discovery], scope: DiscoveryScope, keys: DiscoveryKeys, presence: Presence
) -> AbstractAsyncContextManager[_Listener]:
    return _running(lambda: make().announce(_with(scope, keys), presence), "announce", _Listener())


def _with(scope: DiscoveryScope, keys: DiscoveryKeys) -> DiscoveryScope:
    async def give() -> DiscoveryKeys:
        await trio.lowlevel.checkpoint()
        return keys

    return replace(scope, keys=give)


@asynccontextmanager
async def _running(
    method: Callable[[], Awaitable[None]], name: str, listener: _Listener
) -> AsyncIterator[_Listener]:
    """Run a method that must go on until it is cancelled, and then end soon."""
    ended = trio.Event()
    scope = trio.CancelScope()

    async def run() -> None:
        with scope:
            await method()
        require(scope.cancel_called, f"{name} must go on until it is cancelled")
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield listener
        scope.cancel()
        with trio.move_on_after(END_S) as late:
            await ended.wait()
        require(not late.cancelled_caught, f"{name} must end within {END_S:g} s when it is cancelled")
