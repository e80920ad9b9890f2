"""Sources of outgoing streams."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dispy.model import FilePart, Pieces
from dispy.runtime.sources import BytesSource, FileSource, PiecesSource, open_source
from dispy.wire.session import StreamSource


def test_bytes_are_cut_without_copying() -> None:
    data = b"abcdef"
    source = BytesSource(data)
    piece = source.read(4)
    assert bytes(piece) == b"abcd"
    assert piece.obj is data
    assert bytes(source.read(4)) == b"ef"
    assert not source.read(4)


def test_pieces_are_sent_from_where_they_lie() -> None:
    parts = (b"ab", b"", b"cdefg", b"h")
    pieces = Pieces(parts)
    assert len(pieces) == 8
    source = PiecesSource(pieces)
    cut = [source.read(3) for _ in range(4)]
    assert [bytes(one) for one in cut] == [b"ab", b"cde", b"fg", b"h"]
    assert cut[1].obj is parts[2]
    assert not source.read(3)
    source.close()


def test_file_is_read_in_pieces_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"x" * 10)
    source = FileSource(str(path))
    assert source.read(6) + source.read(6) == b"x" * 10
    assert source.read(6) == b""
    source.close()


def test_missing_file_is_told_at_the_first_read(tmp_path: Path) -> None:
    source = FileSource(str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError):
        source.read(1)
    source.close()


def test_kind_of_source_is_chosen_by_type(tmp_path: Path) -> None:
    assert isinstance(open_source(b""), BytesSource)
    assert isinstance(open_source(Pieces(())), PiecesSource)
    assert isinstance(open_source(FilePart(str(tmp_path), 1, 0.0)), FileSource)


def part_of(path: Path) -> FilePart:
    return FilePart(str(path), path.stat().st_size, path.stat().st_mtime)


def read_all(source: StreamSource) -> bytes:
    data = b""
    try:
        while piece := source.read(4):
            data += piece
    finally:
        source.close()
    return data


def test_files_may_stand_among_pieces(tmp_path: Path) -> None:
    path, empty = tmp_path / "data", tmp_path / "empty"
    path.write_bytes(b"0123456789")
    empty.touch()
    pieces = Pieces((b"ab", part_of(path), part_of(empty), b"yz"))
    assert len(pieces) == 14
    assert read_all(open_source(pieces)) == b"ab0123456789yz"
    source = open_source(pieces)
    source.read(2)
    assert source.read(4) == b"0123"
    source.close()
    with pytest.raises(ValueError, match="released"):
        source.read(4)


@pytest.mark.parametrize("skip", [0, 3, 9, 10])
def test_the_beginning_of_a_file_can_be_left_out(tmp_path: Path, skip: int) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"0123456789")
    part = replace(part_of(path), skip=skip)
    assert len(part) == 10 - skip
    assert read_all(open_source(part)) == b"0123456789"[skip:]
    assert read_all(open_source(Pieces((b"ab", part, b"yz")))) == b"ab" + b"0123456789"[skip:] + b"yz"


@pytest.mark.parametrize("change", ["before", "grows", "shrinks", "touched"])
@pytest.mark.parametrize("among_pieces", [False, True])
def test_a_file_that_changes_is_not_sent(tmp_path: Path, change: str, among_pieces: bool) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"0123456789")
    part = part_of(path)
    source = open_source(Pieces((part,)) if among_pieces else part)
    if change != "before":
        assert source.read(4) == b"0123"
    match change:
        case "before" | "grows":
            path.write_bytes(b"0123456789+")
        case "shrinks":
            path.write_bytes(b"0123")
        case "touched":
            os.utime(path, (1.0, 1.0))
    with pytest.raises(OSError, match="data' has changed since it was named"):
        read_all(source)


def test_a_pipe_in_place_of_a_file_makes_nobody_wait(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"0123456789")
    part = part_of(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="has changed"):
        read_all(open_source(part))
