"""What runner and children say to each other; the test plays the child."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from dispy_node.runner.bare import READABLE, WRITABLE, channel, signals
from dispy_node.runner.capture import take
from dispy_node.runner.family import CHANNEL, PROCESS, STDERR, STDOUT
from dispy_node.runner.frames import KEY
from dispy_node.runner.offspring import Offspring
from dispy_node.runner.replies import GarbledReplies, make_result, reply
from dispy_node.runner.talk import Talk

RECORD = make_result(KEY.pack(7, 1), 0, 0, (1.0, 2.0), b"", False, b"body")


class Family:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.known: dict[int, tuple[Offspring, int]] = {}

    def find(self, descriptor: int) -> tuple[Offspring, int] | None:
        return self.known.get(descriptor)

    def watch(self, child: Offspring, mask: int) -> None:
        self.told.append(("watch", mask))

    def forget(self, descriptor: int) -> None:
        self.told.append(("forget", descriptor))

    def expect_end(self, child: Offspring) -> None:
        self.told.append(("expect_end",))

    def signal(self, child: Offspring, number: int) -> None:
        self.told.append(("signal", number))


class Scene:
    def __init__(self, settings: Any) -> None:
        self.family = Family()
        self.heard: list[tuple[int, bytes]] = []
        self.printed: list[Offspring] = []
        self.talk = Talk(settings, self.family, self.hear, self.printed.append)  # type: ignore[arg-type]
        ours, self.theirs = channel()
        stdout, self.stdout = os.pipe()
        stderr, self.stderr = os.pipe()
        for descriptor in (ours, stdout, stderr):
            os.set_blocking(descriptor, False)
        self.child = Offspring(ours, stdout, stderr, None)
        self.family.known = {
            ours: (self.child, CHANNEL),
            stdout: (self.child, STDOUT),
            stderr: (self.child, STDERR),
            9999: (self.child, PROCESS),
        }
        self.opened = {ours, self.theirs, stdout, self.stdout, stderr, self.stderr}

    def hear(self, child: Offspring, replies: list[tuple[int, bytes]]) -> None:
        self.heard += replies

    def close(self, descriptor: int) -> None:
        self.opened.remove(descriptor)
        os.close(descriptor)


@pytest.fixture
def scene(settings) -> Iterator[Scene]:
    scene = Scene(settings)
    yield scene
    for descriptor in scene.opened:
        os.close(descriptor)


def test_records_that_do_not_fit_follow_later(scene: Scene) -> None:
    data = bytes(range(256)) * 8192
    scene.talk.send(scene.child, data)
    assert scene.family.told == [("watch", READABLE | WRITABLE)]
    scene.talk.send(scene.child, b"end")
    got = b""
    while not got.endswith(b"end"):
        got += os.read(scene.theirs, 1 << 20)
        scene.talk.handle(scene.child.channel, WRITABLE)
    assert got == data + b"end"
    assert scene.family.told[-1] == ("watch", READABLE)


def test_a_child_that_takes_nothing_is_deaf(scene: Scene) -> None:
    scene.close(scene.theirs)
    scene.talk.send(scene.child, b"x")
    assert scene.child.deaf


def test_replies_come_in_pieces(scene: Scene) -> None:
    data = reply(0, RECORD) + reply(1, RECORD)
    os.write(scene.theirs, data[:10])
    scene.talk.handle(scene.child.channel, READABLE)
    assert scene.heard == []
    os.write(scene.theirs, data[10:])
    scene.talk.handle(scene.child.channel, READABLE)
    assert scene.heard == [(0, RECORD), (1, RECORD)]
    assert scene.family.told == []


def test_the_end_of_a_channel_means_the_end_of_the_child(scene: Scene) -> None:
    os.write(scene.theirs, reply(0, RECORD))
    scene.close(scene.theirs)
    scene.talk.handle(scene.child.channel, READABLE)
    scene.talk.handle(scene.child.channel, READABLE)
    assert scene.heard == [(0, RECORD)]
    assert scene.family.told == [("forget", scene.child.channel), ("expect_end",)]


def test_replies_before_garbage_count(scene: Scene) -> None:
    os.write(scene.theirs, reply(0, RECORD) + b"what")
    scene.talk.handle(scene.child.channel, READABLE)
    assert scene.heard == [(0, RECORD)]
    assert "process on node there" in scene.child.garbled
    assert scene.child.garbled.endswith("a descriptor that is not its own: a reply of kind 119")
    assert scene.family.told == [
        ("forget", scene.child.channel),
        ("signal", signals.SIGKILL),
        ("expect_end",),
    ]
    os.write(scene.theirs, reply(0, RECORD))
    scene.talk.hear(scene.child)
    assert len(scene.heard) == 1, "nothing is believed any more"


def test_garbage_after_the_last_word_of_a_closed_child_is_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(child: Offspring, replies: list[tuple[int, bytes]]) -> None:
        child.channel = -1

    monkeypatch.setattr(scene.talk, "_heard", close)
    os.write(scene.theirs, reply(0, RECORD) + b"x")
    scene.talk.hear(scene.child)
    assert not scene.child.garbled
    assert scene.family.told == []


def test_a_reply_that_the_child_cannot_give_garbles_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(child: Offspring, replies: list[tuple[int, bytes]]) -> None:
        raise GarbledReplies("of no job")

    monkeypatch.setattr(scene.talk, "_heard", refuse)
    os.write(scene.theirs, reply(0, RECORD))
    scene.talk.hear(scene.child)
    assert scene.child.garbled.endswith("of no job")


def test_output_is_kept_after_what_was_said_before_it(scene: Scene) -> None:
    os.write(scene.theirs, reply(0, RECORD))
    os.write(scene.stdout, b"out")
    scene.talk.turn += 1
    scene.talk.handle(scene.child.stdout, READABLE)
    assert scene.heard == [(0, RECORD)]
    os.write(scene.stderr, b"err")
    scene.talk.read_to_end(scene.child)
    os.write(scene.stdout, b"of the next job")
    scene.talk.handle(scene.child.stdout, READABLE)
    assert take(scene.child) == (b"out", b"err")


def test_closed_output_and_ended_processes_are_forgotten(scene: Scene) -> None:
    scene.close(scene.stdout)
    scene.talk.turn += 1
    scene.talk.handle(scene.child.stdout, READABLE)
    scene.talk.handle(9999, READABLE)
    scene.talk.handle(8888, READABLE)
    assert scene.family.told == [("forget", scene.child.stdout), ("forget", 9999), ("expect_end",)]
