"""Files that the application sends to a node."""

from __future__ import annotations

from typing import Any

import pytest

from dispy.engine.effects import SendMessage, SendStream, TellFile
from dispy.engine.events import FileWanted
from dispy.engine.records import SourceFile
from dispy.model import FilePart
from dispy.wire.messages import ComputationFailed, FileOffer, FileTaken, SendFile

FILE = SourceFile("/home/x", "x", 7, 0o644, 1.5)


def want(world: Any, computation: Any, number: int = 1) -> list[Any]:
    return world.do(FileWanted(computation.id, world.ident(number), FILE, "handle"))


def test_file_is_sent_and_its_answer_passed_on(world: Any) -> None:
    computation = world.add()
    world.use(computation, 1)
    link = world.node().link
    message = SendFile(computation.id, 1, FileOffer("x", 7, 0o644, 1.5, 1))
    assert want(world, computation) == [
        SendMessage(link, message),
        SendStream(link, 1, FilePart("/home/x", 7, 1.5), 7),
    ]
    assert world.say(FileTaken(computation.id, 1)) == [TellFile("handle", "")]
    assert world.say(FileTaken(computation.id, 1)) == []
    assert world.engine.counters.stray_messages == 1
    want(world, computation)
    assert world.say(FileTaken(computation.id, 2, "disk full")) == [TellFile("handle", "disk full")]


def test_node_that_is_not_ready_gets_nothing(world: Any) -> None:
    computation = world.add()
    world.connect(1)
    for number in (1, 9):
        (told,) = want(world, computation, number)
        assert isinstance(told, TellFile)
        assert told.reason


@pytest.mark.parametrize("final", [True, False])
def test_nobody_waits_for_a_link_that_broke(world: Any, *, final: bool) -> None:
    computation = world.add()
    world.use(computation, 1)
    want(world, computation)
    told = [effect for effect in world.disconnect(final=final) if isinstance(effect, TellFile)]
    assert [effect.handle for effect in told] == ["handle"]
    assert "was lost" in told[0].reason


def test_nobody_waits_for_a_computation_that_failed(world: Any) -> None:
    computation = world.add()
    world.use(computation, 1)
    want(world, computation)
    effects = world.say(ComputationFailed(computation.id, "its runner ended"))
    assert [effect.handle for effect in effects if isinstance(effect, TellFile)] == ["handle"]


def test_answer_of_another_node_counts_for_nothing(world: Any) -> None:
    computation = world.add()
    world.use(computation, 1, 2)
    want(world, computation, 1)
    assert world.say(FileTaken(computation.id, 1), 2) == []
