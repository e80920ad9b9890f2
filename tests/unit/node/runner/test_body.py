from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.model import Outcome
from dispy.packing.results import ResultBody
from dispy_node.runner import body
from dispy_node.runner.body import append_output, make_body, split_body, write_body

SECTIONS = st.tuples(st.binary(), st.binary(), st.binary(), st.binary())


def test_outcomes_are_those_of_the_model() -> None:
    assert {name: getattr(body, name) for name in Outcome.__members__} == dict(Outcome.__members__)


@given(SECTIONS)
def test_round_trip(sections: tuple[bytes, bytes, bytes, bytes]) -> None:
    assert split_body(make_body(*sections)) == sections


@given(SECTIONS)
def test_client_reads_the_same(sections: tuple[bytes, bytes, bytes, bytes]) -> None:
    parsed = ResultBody.parse(make_body(*sections))
    assert (bytes(parsed.value), parsed.error, parsed.stdout, parsed.stderr) == sections


def test_nothing_is_empty() -> None:
    assert make_body() == b""


@given(st.binary(min_size=1))
def test_foreign_bytes_are_refused_or_fit(data: bytes) -> None:
    try:
        sections = split_body(data)
    except ValueError:
        return
    assert make_body(*sections) in (data, b"")


def test_output_is_appended_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "1-1.result"
    write_body(str(path), (b"value", make_body(b"value")[5:]))
    append_output(str(path), b"out", b"err")
    assert split_body(path.read_bytes()) == (b"value", b"", b"out", b"err")


def test_leftover_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "1-1.result"
    path.write_bytes(b"half a res")
    write_body(str(path), (b"new",))
    assert path.read_bytes() == b"new"


def test_file_is_removed_when_it_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    path = tmp_path / "1-1.result"
    monkeypatch.setattr("os.write", full)
    with pytest.raises(OSError, match="No space"):
        write_body(str(path), (b"new",))
    assert not path.exists()
    path.write_bytes(make_body(b"value"))
    with pytest.raises(OSError, match="No space"):
        append_output(str(path), b"out", b"")
    assert not path.exists()


def test_file_without_trailer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "1-1.result"
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match="too short"):
        append_output(str(path), b"out", b"")


def test_links_are_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "1-1.result"
    target.write_bytes(make_body(b"value"))
    link.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        append_output(str(link), b"out", b"")
    write_body(str(link), (b"mine",))
    assert not link.is_symlink()
    assert split_body(target.read_bytes())[0] == b"value"
