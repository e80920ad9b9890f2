"""What only a connection of bytes does; what both kinds do stands in test_links.py."""

from __future__ import annotations

from typing import Any

import pytest

from dispy.errors import RemoteProtocolError
from dispy_testing.simulation.wire import WireConnection


def test_idle_connection_lives_by_heartbeats(make_pair: Any) -> None:
    pair = make_pair(WireConnection)
    pair.run(300.0)
    assert pair.client.end_reason is pair.node.end_reason is None
    assert pair.timeline.steps > 100


def test_bad_bytes_are_an_error_of_the_run(make_pair: Any) -> None:
    pair = make_pair(WireConnection)
    pair.run(1.0)
    pair.connection.client.out.push(lambda: pair.connection._receive(pair.connection.node, b"\0" * 64))
    with pytest.raises(RemoteProtocolError):
        pair.run(1.0)
