"""Texts of ``-a`` to the arguments of jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.errors import UsageError
from dispy_cli import arguments
from dispy_cli.arguments import check_texts, list_jobs, read_lines, split_arguments

PLAIN = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="'\""), min_size=1
)


def no_stdin() -> Iterator[bytes]:
    raise AssertionError("standard input is not to be read")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("arg11 arg12", ["arg11", "arg12"]),
        ("", []),
        (" \t ", []),
        ("  a\t b ", ["a", "b"]),
        ("'a b' c", ["a b", "c"]),
        ('"a b" c', ["a b", "c"]),
        ("x='a b'", ["x=a b"]),
        ("''", [""]),
        ('"don\'t"', ["don't"]),
        ("C:\\new\\table", ["C:\\new\\table"]),
        ('"a\\" b', ["a\\", "b"]),
        ("a#b #c", ["a#b", "#c"]),
        ("$HOME *.txt; rm|x", ["$HOME", "*.txt;", "rm|x"]),
        ("'-'", ["-"]),
        ("é ü", ["é", "ü"]),
    ],
)
def test_text_is_split_at_white_space_outside_quotes(text: str, expected: list[str]) -> None:
    assert split_arguments(text) == expected


@given(st.lists(PLAIN))
def test_words_without_quotes_come_out_as_they_went_in(words: list[str]) -> None:
    assert split_arguments(" ".join(words)) == words


@pytest.mark.parametrize("text", ["don't", '"a b', "a 'b"])
def test_quote_without_partner_is_an_error_that_tells_the_remedy(text: str) -> None:
    with pytest.raises(UsageError, match="without a partner; to pass the mark itself") as caught:
        split_arguments(text)
    assert repr(text) in str(caught.value)


def test_nul_is_an_error() -> None:
    with pytest.raises(UsageError, match="NUL"):
        split_arguments("a\0b")


def test_jobs_come_in_the_order_of_texts_and_lines() -> None:
    jobs = list_jobs(["first 1", "-", "last"], lambda: [b"a b", b"", b"   ", b"c\r"])
    assert list(jobs) == [["first", "1"], ["a", "b"], ["c"], ["last"]]


def test_blank_text_is_a_job_without_arguments_and_stdin_is_left_alone() -> None:
    assert list(list_jobs([""], no_stdin)) == [[]]


def test_stdin_is_read_only_when_its_turn_comes() -> None:
    jobs = list_jobs(["first", "-"], no_stdin)
    assert next(jobs) == ["first"]
    with pytest.raises(AssertionError, match="not to be read"):
        next(jobs)


def test_bytes_that_are_not_utf8_survive() -> None:
    (words,) = list_jobs(["-"], lambda: [b"caf\xe9 x"])
    assert os.fsencode(words[0]) == b"caf\xe9"
    assert words[1] == "x"


def test_line_that_cannot_be_split_is_told_by_its_number() -> None:
    jobs = list_jobs(["-"], lambda: [b"good", b"", b"don't"])
    assert next(jobs) == ["good"]
    with pytest.raises(UsageError, match='^line 3 of standard input: arguments "don\'t"'):
        next(jobs)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], 'nothing to run: give -a "ARGUMENTS"'),
        (["-", "a", "-"], "standard input can be read only once"),
        (["a", "'b"], "without a partner"),
    ],
)
def test_texts_are_checked_before_anything_starts(texts: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_texts(texts)


def test_good_texts_pass_the_check() -> None:
    check_texts(["a b", "-", ""])


@given(data=st.binary(max_size=200), size=st.integers(1, 50))
def test_lines_are_the_same_however_they_arrive(data: bytes, size: int) -> None:
    ours, theirs = os.pipe()
    try:
        os.write(theirs, data)
        os.close(theirs)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(arguments, "READ_BYTES", size)
            lines = list(read_lines(ours))
    finally:
        os.close(ours)
    expected = data.split(b"\n")
    assert lines == (expected if expected[-1] else expected[:-1])


def test_unreadable_descriptor_is_an_os_error(tmp_path: object) -> None:
    descriptor = os.open(str(tmp_path), os.O_RDONLY)
    try:
        with pytest.raises(IsADirectoryError):
            list(read_lines(descriptor))
    finally:
        os.close(descriptor)
