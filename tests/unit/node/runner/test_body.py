"""Bodies of results, in memory and in files."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.model import Outcome
from dispy_node.runner import body
from dispy_node.runner.body import TRAILER, append_output, make_body, split_body, write_body

parts = st.tuples(*[st.binary(max_size=30)] * 4)


def test_outcomes_have_the_numbers_of_the_model() -> None:
    assert {name: getattr(body, name) for name in Outcome.__members__} == {
        name: int(outcome) for name, outcome in Outcome.__members__.items()
    }


@given(parts)
def test_parts_come_out_as_they_went_in(given_parts: tuple[bytes, bytes, bytes, bytes]) -> None:
    assert split_body(make_body(*given_parts)) == given_parts


def test_nothing_takes_no_bytes() -> None:
    assert make_body() == b""
    assert split_body(b"") == (b"", b"", b"", b"")


@given(st.binary(min_size=1, max_size=TRAILER.size - 1))
def test_too_short_bodies_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="too short"):
        split_body(data)


@given(parts, st.binary(min_size=1, max_size=5))
def test_bodies_with_more_than_they_say_are_refused(
    given_parts: tuple[bytes, bytes, bytes, bytes], more: bytes
) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        split_body(more + (make_body(*given_parts) or TRAILER.pack(0, 0, 0, 0)))


@given(parts)
def test_output_is_added_to_a_file(given_parts: tuple[bytes, bytes, bytes, bytes]) -> None:
    value, error, stdout, stderr = given_parts
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "1-1.result")
        write_body(path, (value, error, TRAILER.pack(len(value), len(error), 0, 0)))
        append_output(path, stdout, stderr)
        assert split_body(Path(path).read_bytes()) == given_parts


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "1-1.result"
    write_body(str(path), (b"one", b"", b"two"))
    assert path.read_bytes() == b"onetwo"
    assert stat.S_IMODE(path.stat().st_mode) & 0o177 == 0


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "1-1.result"
    path.write_bytes(b"a much longer beginning of a result")
    write_body(str(path), (b"new",))
    assert path.read_bytes() == b"new"


def test_links_are_not_followed(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "1-1.result"
    victim.write_bytes(make_body(b"value"))
    path.symlink_to(victim)
    with pytest.raises(OSError, match="1-1.result"):
        append_output(str(path), b"out", b"")
    write_body(str(path), (b"new",))
    assert split_body(victim.read_bytes())[0] == b"value"
    assert not path.is_symlink()


def test_a_file_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_body(str(tmp_path / "nowhere" / "1-1.result"), (b"value",))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
def test_nothing_is_left_of_what_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "1-1.result"
    full = os.open("/dev/full", os.O_WRONLY)
    really_open = os.open

    def open_full(name: str, flags: int, mode: int = 0o777) -> int:
        os.close(really_open(name, flags, mode))
        return full

    monkeypatch.setattr(os, "open", open_full)
    with pytest.raises(OSError, match="No space left"):
        write_body(str(path), (b"value",))
    assert not path.exists()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(full)


def test_a_file_without_a_trailer_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "1-1.result"
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match="too short"):
        append_output(str(path), b"out", b"")
    assert not path.exists()
