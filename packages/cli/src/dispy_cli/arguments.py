"""From the texts of ``-a`` to the arguments of jobs.

Each text is one job. It is split at white space, as in the original; words in single or double quotes stay together,
which the original could not do. Nothing else is special: a backslash is a backslash.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence

from dispy.errors import UsageError

FROM_STDIN = "-"
"""The text that stands for as many jobs as there are lines on standard input."""

READ_BYTES = 64 * 1024
"""Bytes asked of standard input at once: what a pipe holds on Linux."""


def split_arguments(text: str) -> list[str]:
    """Return the arguments that *text* stands for; none if it is blank.

    Raises:
        UsageError: a quotation mark has no partner, or there is a NUL character.
    """
    if "\0" in text:
        raise UsageError(f"arguments {text!r} hold a NUL character, which no program can be given")
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    lexer.escape = ""
    try:
        return list(lexer)
    except ValueError as error:
        raise UsageError(
            f"arguments {text!r} have a quotation mark without a partner; "
            "to pass the mark itself, put it between marks of the other kind"
        ) from error


def list_jobs(texts: Sequence[str], read_stdin: Callable[[], Iterable[bytes]]) -> Iterator[list[str]]:
    """Give the arguments of each job, in order; standard input is read only when its turn comes.

    Args:
        texts: as the user gave them.
        read_stdin: gives the lines of standard input; blank ones are skipped.

    Raises:
        UsageError: a text or line cannot be split; a line's number is told.
    """
    for text in texts:
        if text == FROM_STDIN:
            yield from _list_lines(read_stdin())
        else:
            yield split_arguments(text)


def _list_lines(lines: Iterable[bytes]) -> Iterator[list[str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield split_arguments(line.decode("utf-8", "surrogateescape"))
        except UsageError as error:
            raise UsageError(f"line {number} of standard input: {error}") from error


def check_texts(texts: Sequence[str]) -> None:
    """Refuse what is wrong with the texts before anything is started.

    Raises:
        UsageError: there is none, standard input is asked for twice, or one cannot be split.
    """
    if not texts:
        raise UsageError(
            'nothing to run: give -a "ARGUMENTS" once for each job, -a "" to run the program once without '
            "arguments, or -a - to read the arguments of one job from each line of standard input"
        )
    if texts.count(FROM_STDIN) > 1:
        raise UsageError("-a - is given twice, but standard input can be read only once")
    for text in texts:
        if text != FROM_STDIN:
            split_arguments(text)


def read_lines(descriptor: int) -> Iterator[bytes]:
    """Give the lines of a file descriptor as they come, without their ends.

    It reads the descriptor itself: a thread that waits in a buffered file would hold that file's lock, and Python
    aborts if it has to wait for it when the program ends.

    Raises:
        OSError: reading failed.
    """
    rest = b""
    while data := os.read(descriptor, READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
    if rest:
        yield rest
