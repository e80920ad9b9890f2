"""Sources of outgoing streams."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispy.model import Pieces
from dispy.runtime.sources import BytesSource, FileSource, PiecesSource, open_source


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
    assert isinstance(open_source(str(tmp_path)), FileSource)
