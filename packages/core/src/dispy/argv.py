"""Takes a secret off the command line of this process, where every user of the machine can read it.

The process runs itself again without the secret, which the new one reads from a descriptor that it inherits. It
cannot be helped that the secret was there for some milliseconds, and is in the shell's history: the user is told.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from dispy.errors import UsageError

SECRET_VARIABLE = "DISPY_ARGUMENT_FD"
"""Names the descriptor that holds the secret, in the environment of the new process until it has read it."""

MAX_BYTES = 4096
"""Longest secret: less than a pipe holds on any system, so that writing it does not wait for a reader."""

FLAGS = "dqv"
"""Letters of the commands' options without values: ``-s`` may stand behind them in one word."""


def take_secret(secret: str | None) -> str | None:
    """Return the secret that was given on the command line, which it is off by then; None if none was given.

    It does not return as long as the secret stands there: the process begins anew. Call it before any thread starts,
    and once, with what was parsed.

    Raises:
        UsageError: the secret is too long, or it cannot be received.
        OSError: this process cannot be run again.
    """
    if not secret:
        return _receive()
    words = without_secret(sys.argv[1:], secret)
    if words != sys.argv[1:]:
        _run_again(words, secret)
    return secret  # a program has called the command: it was never on the command line


def without_secret(words: Sequence[str], secret: str) -> list[str]:
    """Return *words* without ``-s SECRET`` and ``--secret SECRET``, however they are written.

    Only words with exactly this secret go, since values of other options may look alike; none behind ``--`` does.
    """
    attached = re.compile(rf"(?:--secret=|-s){re.escape(secret)}")
    clustered = re.compile(rf"(-[{FLAGS}]+)s({re.escape(secret)})?")
    kept: list[str] = []
    place = 0
    while place < len(words) and words[place] != "--":
        word = words[place]
        is_next = list(words[place + 1 : place + 2]) == [secret]
        flags = clustered.fullmatch(word)
        if word in ("-s", "--secret") and is_next:
            place += 1
        elif flags and (flags[2] or is_next):
            kept.append(flags[1])
            place += not flags[2]
        elif not attached.fullmatch(word):
            kept.append(word)
        place += 1
    return [*kept, *words[place:]]


def _run_again(words: Sequence[str], secret: str) -> NoReturn:
    """Replace this process by one that was started with *words*, and has *secret* in a descriptor."""
    environment = dict(os.environ)
    if SECRET_VARIABLE not in environment:  # else -s was given twice: the last counts, and is there already
        environment[SECRET_VARIABLE] = str(_pass_on(secret))
        print(
            "dispy: a secret on the command line can be read by every user of this machine; it was taken off now, "
            "but use --secret-file, or the key that `dispy key` keeps",
            file=sys.stderr,
            flush=True,
        )
    # What stands before our arguments is the interpreter and its options, so the new process starts as this one did.
    start = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    os.execve(sys.executable, [*start, *words], environment)


def _pass_on(secret: str) -> int:
    """Return a descriptor for the new process to read *secret* from."""
    data = secret.encode("utf-8", "surrogateescape")
    if len(data) > MAX_BYTES:
        raise UsageError(
            f"the secret is longer than {MAX_BYTES} bytes: put it into a file, and use --secret-file"
        )
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    os.set_inheritable(reader, True)
    return reader


def _receive() -> str | None:
    number = os.environ.pop(SECRET_VARIABLE, "")
    if not number:
        return None
    try:
        with open(int(number), "rb") as file:
            return file.read().decode("utf-8", "surrogateescape")
    except (ValueError, OSError):
        # The value is not shown, nor is the cause: somebody may have put the secret itself there.
        raise UsageError(
            f"{SECRET_VARIABLE} is for a process to use that begins anew: unset it, and use --secret-file"
        ) from None
