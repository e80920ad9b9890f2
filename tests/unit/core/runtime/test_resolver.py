"""Names to addresses without trio's threads."""

from __future__ import annotations

import socket
import threading

import pytest
import trio

from dispy.errors import TransportError, UsageError
from dispy.runtime.resolver import Resolver, is_numeric, own_addresses


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%eth0"])
def test_addresses_are_numeric(host: str) -> None:
    assert is_numeric(host)


@pytest.mark.parametrize("host", ["localhost", "10.0.0", "", "node1"])
def test_names_are_not(host: str) -> None:
    assert not is_numeric(host)


def test_names_are_looked_up_ipv4_first_and_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: object, **keywords: object) -> list[tuple[object, ...]]:
        if host != "both":
            raise socket.gaierror(-2, "Name or service not known")
        stream = socket.SOCK_STREAM
        return [
            (socket.AF_INET6, stream, 6, "", ("2001:db8::1", 0, 0, 0)),
            (socket.AF_INET, stream, 6, "", ("192.0.2.1", 0)),
            (socket.AF_INET, stream, 6, "", ("192.0.2.1", 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def main() -> None:
        resolver = Resolver()
        try:
            assert await resolver.resolve("both") == ["192.0.2.1", "2001:db8::1"]
            assert await resolver.resolve("192.0.2.7") == ["192.0.2.7"]
            with pytest.raises(TransportError, match="unknown host 'nobody'"):
                await resolver.resolve("nobody")
        finally:
            resolver.close()

    trio.run(main, strict_exception_groups=True)


def test_own_addresses_are_those_of_names_and_of_this_machine_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def getaddrinfo(host: object, *_args: object, **_keywords: object) -> list[tuple[object, ...]]:
        if host == "me":
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
            ]
        if host == "other":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]
        if not isinstance(host, str):
            raise TypeError("that is no name")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert own_addresses("me") == ["127.0.0.1"]
    assert own_addresses(["other", "nobody", 5, "me", "me"]) == ["127.0.0.1"]  # type: ignore[list-item]
    shown = capsys.readouterr().out
    assert "'other' is not used: it is not an address of this machine" in shown
    assert "'nobody' is not used: " in shown
    assert "5 is not used: that is no name" in shown
    with pytest.raises(UsageError, match="no valid IP address found: host='other'"):
        own_addresses("other")


def test_closing_does_not_wait_for_a_slow_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def getaddrinfo(*_args: object, **_keywords: object) -> list[tuple[object, ...]]:
        asked.set()
        go_on.wait(30)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def main() -> Resolver:
        resolver = Resolver()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(resolver.resolve, "slow")
            while not asked.is_set():
                await trio.lowlevel.checkpoint()
            resolver.close()
            nursery.cancel_scope.cancel()
        return resolver

    resolver = trio.run(main, strict_exception_groups=True)
    assert resolver._thread.is_alive()
    go_on.set()
    resolver._thread.join(30)
    assert not resolver._thread.is_alive()
