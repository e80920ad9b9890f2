"""Stand-ins for standard modules behave as those do."""

from __future__ import annotations

import json
import math
import os
import select
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy_node.runner import bare
from dispy_node.runner.bare import READABLE, WRITABLE, Libc, channel, open_poll, parse_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
json_like = st.text('{}[]",:0123456789.eE+-\\ntrufalsNI\x00é ', max_size=30).map(str.strip)


@given(values, st.sampled_from([None, 2]), st.booleans())
def test_json_is_read(value: object, indent: int | None, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, indent=indent, ensure_ascii=ascii_only)) == value


@given(json_like)
def test_json_is_refused_where_json_refuses_it(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 (the C scanner has texts of its own)
            parse_json(text)
    else:
        assert repr(parse_json(text)) == repr(expected)


@pytest.mark.parametrize("text", ["", " ", "{", "[1,]", "{} {}", "nul", "'a'", "{1: 2}", '"\n"'])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the C scanner has texts of its own)
        parse_json(text)


def test_json_reads_the_numbers_that_python_writes() -> None:
    assert parse_json(" [Infinity, -Infinity] ") == [math.inf, -math.inf]
    assert math.isnan(float(str(parse_json("NaN"))))


def test_a_channel_joins_two_descriptors_that_programs_do_not_inherit() -> None:
    ours, theirs = channel()
    try:
        os.write(ours, b"there")
        os.write(theirs, b"and back")
        assert (os.read(theirs, 9), os.read(ours, 9)) == (b"there", b"and back")
        assert not os.get_inheritable(ours)
        assert not os.get_inheritable(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def exercise(poll: Any) -> None:
    ours, theirs = channel()
    try:
        poll.register(ours, READABLE)
        assert poll.poll(0) == []
        os.write(theirs, b"x")
        assert poll.poll(1.0) == [(ours, READABLE)]
        assert poll.poll(-1) == [(ours, READABLE)]
        poll.modify(ours, READABLE | WRITABLE)
        assert poll.poll(0) == [(ours, READABLE | WRITABLE)]
        poll.unregister(ours)
        assert poll.poll(0) == []
        with pytest.raises((FileNotFoundError, KeyError)):  # what `Pool` expects of either
            poll.unregister(ours)
        with pytest.raises((FileNotFoundError, KeyError)):
            poll.modify(ours, READABLE)
    finally:
        os.close(ours)
        os.close(theirs)


def test_poll_reports_what_can_be_done() -> None:
    poll = open_poll()
    try:
        exercise(poll)
    finally:
        if poll.fileno() >= 0:
            os.close(os.dup(poll.fileno()))
        getattr(poll, "close", lambda: None)()


def test_poll_without_epoll_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll", raising=False)
    poll = open_poll()
    assert poll.fileno() == -1
    exercise(poll)


def test_descriptor_bits_are_those_of_the_system() -> None:
    assert (READABLE, WRITABLE) == (select.POLLIN, select.POLLOUT)
    if hasattr(select, "epoll"):
        assert (READABLE, WRITABLE) == (select.EPOLLIN, select.EPOLLOUT)


def test_flushing_c_buffers_harms_nothing() -> None:
    Libc().flush_all()


def test_a_python_without_ctypes_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_ctypes", None)
    libc = Libc()
    libc.flush_all()
    assert not libc.become_subreaper()
    assert not libc.die_with_parent()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is of Linux")
def test_linux_has_subreapers_and_deadly_parents(run_script) -> None:
    assert run_script(
        """
        import ctypes
        from dispy_node.runner.bare import Libc
        libc, real = Libc(), ctypes.CDLL(None)
        told = [libc.become_subreaper(), libc.die_with_parent()]
        for option in (37, 2):  # PR_GET_CHILD_SUBREAPER, PR_GET_PDEATHSIG
            number = ctypes.c_int()
            real.prctl(option, ctypes.byref(number), 0, 0, 0)
            told.append(number.value)
        """
    ) == [True, True, 1, 9]


def test_thick_modules_are_not_imported(run_script) -> None:
    told = run_script(
        """
        import sys
        for name in ("json", "pickle", "signal", "socket", "ctypes"):
            sys.modules.pop(name, None)
        import dispy_node.runner.bare as bare
        bare.parse_json("[1]")
        bare.Libc()
        told = sorted({"json", "pickle", "signal", "socket", "ctypes"} & set(sys.modules))
        import json
        """
    )
    assert told == []


def test_public_names_are_there() -> None:
    assert [name for name in bare.__all__ if not hasattr(bare, name)] == []
