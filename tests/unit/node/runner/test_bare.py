from __future__ import annotations

import json
import os
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy_node.runner.bare import READABLE, Libc, _PlainPoll, channel, open_poll, parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(VALUES, st.sampled_from([None, 2]))
def test_json_is_read_as_by_the_standard_library(value: Any, indent: int | None) -> None:
    assert parse_json(json.dumps(value, indent=indent)) == value


@pytest.mark.parametrize("text", ["", "{", "[1,]", "1 2", "nonsense"])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text)


def test_channel_connects_and_is_not_inherited() -> None:
    first, second = channel()
    try:
        os.write(first, b"there")
        assert os.read(second, 10) == b"there"
        assert not os.get_inheritable(first)
    finally:
        os.close(first)
        os.close(second)


@pytest.mark.parametrize("make", [open_poll, _PlainPoll])
def test_both_polls_tell_the_same(make: Any) -> None:
    poll = make()
    first, second = channel()
    try:
        poll.register(first, READABLE)
        assert poll.poll(0.0) == []
        os.write(second, b"x")
        assert poll.poll(-1.0) == [(first, READABLE)]
        poll.unregister(first)
        assert poll.poll(0.0) == []
    finally:
        os.close(first)
        os.close(second)


def test_libc_is_loaded_when_needed() -> None:
    libc = Libc()
    assert not libc.die_with_parent()
    libc.flush_all()
    assert "_ctypes" in sys.modules


def test_c_output_goes_out_line_by_line_when_that_is_wanted(
    run_script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # it would hold for C, too
    script = """
import ctypes, os
from dispy_node.runner.bare import Libc
libc, c = Libc(), ctypes.CDLL(None)
read, end = os.pipe()
os.set_blocking(read, False)
os.dup2(end, 1)

def take():
    try:
        return os.read(read, 100)
    except BlockingIOError:
        return b""

seen = []
c.printf(b"held back\\n"); seen.append(take())
libc.buffer_lines(True); seen.append(take())
c.printf(b"line\\n"); seen.append(take())
libc.buffer_lines(False)
c.printf(b"line\\n"); seen.append(take())
told = [data.decode() for data in seen]
"""
    assert run_script(script) == ["", "held back\n", "line\n", ""]
