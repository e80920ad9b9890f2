"""Fuzzes the server name of a TLS handshake, which a node reads before it knows anything of the other side."""

from __future__ import annotations

import loop

from dispy_transport_ssl.hints import is_hint_for, make_hint

KEY = bytes(range(32))


def target(data: bytes) -> None:
    """No name is a hint but one that was made with the key."""
    name = data.decode("utf-8", "replace")
    if is_hint_for(name, KEY) and name != make_hint(KEY, bytes.fromhex(name[:16])):
        raise AssertionError(f"{name!r} passes for a hint")


if __name__ == "__main__":
    loop.run("hints", target)
