"""Files that a client sends to a computation that runs."""

from __future__ import annotations

from typing import Any

import pytest

from dispy.model import ClientId, ComputationId, LinkId
from dispy.wire.messages import CloseComputation, FileOffer, FileTaken, SendFile
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev
from dispy_node.engine.records import Spooled


def offer(number: int = 1, stream: int = 1) -> SendFile:
    return SendFile("a", number, FileOffer("x", 9, 0o644, 1.5, stream))


def test_file_is_placed_and_told(node: Any) -> None:
    node.ready()
    assert node.send(offer()) == []
    assert node.store(1) == [fx.PlaceFile(ComputationId("a"), ClientId("c1"), offer(), Spooled("in", 9))]
    for reason in ("", "disk full"):
        told = node.do(ev.FilePlaced(ClientId("c1"), offer(), reason))
        assert told == [node.said(FileTaken("a", 1, reason))]


def test_file_for_what_is_not_ready_is_refused(node: Any) -> None:
    node.send(node.offer())
    dropped, told = node.send(offer())
    assert dropped == fx.DropStream(LinkId(1), 1)
    assert told.message.reason


def test_file_that_is_too_large_is_refused(make_node: Any) -> None:
    node = make_node(max_file_bytes=8)
    node.connect()
    node.ready()
    dropped, told = node.send(offer())
    assert dropped == fx.DropStream(LinkId(1), 1)
    assert "file 'x' has 9 bytes, more than the 8 of the node's --max-file-size" in told.message.reason


def test_file_that_does_not_come_whole(node: Any) -> None:
    node.ready()
    node.send(offer())
    assert node.do(ev.StreamFailed(LinkId(1), 1, "gone")) == [node.said(FileTaken("a", 1, "gone"))]


def test_file_that_comes_too_late_is_removed(node: Any) -> None:
    node.ready()
    node.send(offer())
    node.send(CloseComputation("a"))
    removed, told = node.store(1)
    assert removed == fx.RemoveSpooled([Spooled("in", 9)])
    assert told.message.reason


@pytest.mark.parametrize("back", [True, False])
def test_link_that_breaks_ends_it(node: Any, *, back: bool) -> None:
    node.ready()
    node.send(offer())
    node.lose()
    if back:
        node.connect(2)
        told = node.do(ev.FilePlaced(ClientId("c1"), offer()))
        assert told == [node.said(FileTaken("a", 1), 2)]  # the client does not know it any more
    else:
        assert node.do(ev.FilePlaced(ClientId("c1"), offer())) == []
        assert node.do(ev.FilePlaced(ClientId("c9"), offer())) == []


def test_numbers_of_streams_must_rise(node: Any) -> None:
    node.ready()
    node.send(offer(1, stream=5))
    effects = node.send(offer(2, stream=5))
    assert any(isinstance(effect, fx.CloseLink) for effect in effects)
