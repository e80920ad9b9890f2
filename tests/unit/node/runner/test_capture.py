from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from dispy_node.runner import capture
from dispy_node.runner.offspring import Offspring

LIMIT = 1000


@pytest.fixture
def pipes() -> Iterator[tuple[Offspring, list[int]]]:
    readers, writers = [], []
    for _ in range(2):
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        readers.append(reader)
        writers.append(writer)
    yield Offspring(-1, readers[0], readers[1], None), writers
    for descriptor in (*readers, *writers):
        os.close(descriptor)


def test_streams_are_kept_apart(pipes: tuple[Offspring, list[int]]) -> None:
    child, (stdout, stderr) = pipes
    os.write(stdout, b"out")
    os.write(stderr, b"err")
    assert capture.read_some(child, child.stdout, LIMIT)
    assert capture.read_some(child, child.stderr, LIMIT)
    assert capture.take(child) == (b"out", b"err")
    assert capture.take(child) == (b"", b"")


def test_nothing_to_read_and_nothing_to_come(pipes: tuple[Offspring, list[int]]) -> None:
    child, writers = pipes
    assert capture.read_some(child, child.stdout, LIMIT)
    os.close(writers[0])
    assert not capture.read_some(child, child.stdout, LIMIT)
    writers[0] = os.dup(child.stdout)


def test_the_rest_is_read_and_bounded(pipes: tuple[Offspring, list[int]]) -> None:
    child, (stdout, stderr) = pipes
    os.write(stdout, b"a" * 3000)
    os.write(stderr, b"b")
    capture.read_to_end(child, LIMIT)
    out, err = capture.take(child)
    assert out.startswith(b"a" * 500 + b"\n[... 2000 bytes")
    assert err == b"b"


def test_a_writer_that_never_stops_is_left(
    pipes: tuple[Offspring, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    child, _ = pipes
    monkeypatch.setattr(os, "read", lambda descriptor, size: b"x")
    capture.read_to_end(child, LIMIT)
    assert capture.take(child) == (b"x" * capture.READS_AT_END, b"x" * capture.READS_AT_END)
