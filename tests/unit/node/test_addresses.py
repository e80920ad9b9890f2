from __future__ import annotations

import pytest

from dispy_node.addresses import local_address


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.0.0.7", "", "local", "no such host", "\x00"])
def test_peers_of_this_machine_and_names_give_loopback(peer: str) -> None:
    assert local_address(peer).startswith("127.")


def test_loopback_of_the_other_kind() -> None:
    assert local_address("::1") in ("::1", "127.0.0.1")  # the latter where there is no IPv6
