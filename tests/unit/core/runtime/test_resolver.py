"""Names to addresses without trio's threads."""

from __future__ import annotations

import socket

import pytest
import trio

from dispy.errors import TransportError
from dispy.runtime.resolver import Resolver, is_numeric


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
