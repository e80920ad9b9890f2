"""``dispy-job``: by which programs send intermediate results and files; see `desk`.

It starts anew for each of them, so it imports hardly anything.
"""

from __future__ import annotations

import os
import sys

from dispy_node.runner.bare import parse_json
from dispy_node.runner.desk import COMMAND, SETTINGS_NAME, VARIABLE, connect
from dispy_node.runner.frames import JOB
from dispy_node.runner.news import News, NotSent, take_answer
from dispy_node.runner.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Never

USAGE = f"""\
usage: {COMMAND} send-file PATH...    send files to the client, and wait until they are there
       {COMMAND} result TEXT          send an intermediate result, as text
       {COMMAND} result -             send what comes on standard input as one, as bytes

Exit status: 0 sent, 1 not sent (standard error tells why), 2 wrong usage.
"""
DONE, REFUSED, WRONG = 0, 1, 2
INTERRUPTED = 130
READ_BYTES = 4096


class Refused(Exception):
    """Something was not sent; the text tells why."""


class WrongUse(Exception):
    """The command line cannot be right, or no job runs here."""


class Teller:
    """The job that this process was started by, as `News` wants to know it.

    Args:
        where: what the environment variable says.

    Raises:
        WrongUse: that is not what a runner says.
        Refused: the runner is gone.
    """

    def __init__(self, where: str) -> None:
        key, _, self._spool = where.partition(":")
        number, _, attempt = key.partition(".")
        if not (number.isdecimal() and attempt.isdecimal() and self._spool):
            raise WrongUse(f"{VARIABLE}={where!r} names no job: it is set for the programs that jobs run")
        self.job, self.attempt, self.process = int(number), int(attempt), os.getpid()
        try:
            with open(os.path.join(self._spool, SETTINGS_NAME), "rb") as file:
                given = parse_json(file.read().decode())
            assert isinstance(given, dict)
            self._connection = connect(self._spool)
        except OSError as error:
            raise Refused(f"the job has ended, or its node: {error.strerror}") from error
        self._data = b""
        # The number is in names of files, and nobody else who lives has it; the desk gives one of its own.
        self.news = News(Settings(given), self, self._send, self._receive, self._channel, self.process)

    def dump(self, value: object) -> bytes:
        """Encode an intermediate result without pickle, so that it is the same for all clients."""
        from dispy_node.runner.safe import encode

        return encode(value)

    def _channel(self) -> int:
        return self._connection

    def _send(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._connection, data) :]
        except OSError as error:
            raise Refused("the job has ended, or its node") from error

    def _receive(self, number: int) -> bytes:
        try:
            more = os.read(self._connection, READ_BYTES)
        except OSError:
            more = b""
        if not more:
            raise Refused("the job has ended, or its node")
        data = self._data = self._data + more
        if len(data) < JOB.size:
            return b""
        _, _, kind, length = JOB.unpack_from(data)
        if len(data) < JOB.size + length:
            return b""
        self._data = data[JOB.size + length :]
        return take_answer(number, kind, data[JOB.size :])


def run(words: Sequence[str], where: str) -> None:
    """Do what the command line says.

    Args:
        words: the command line, without the name of the command.
        where: what the environment variable says; empty if it is not set.

    Raises:
        WrongUse, Refused, NotSent, OSError: it was not done.
    """
    if not words or words[0] not in ("send-file", "result"):
        raise WrongUse(f"{words[0]!r} is not known" if words else "nothing to do")
    what, *rest = words
    if not rest or (what == "result" and len(rest) > 1):
        raise WrongUse(f"{what} wants {'one or more paths' if what == 'send-file' else 'one text, or -'}")
    if not where:
        raise WrongUse(f"{VARIABLE} is not set: this works only in a program that a job runs")
    teller = Teller(where)
    if what == "result":
        if not teller.news.tell_result(_value_of(rest[0])):
            raise Refused("the client has not taken the result: it is away, or the job is being cancelled")
        return
    for path in rest:
        if not teller.news.tell_file(path):
            raise Refused(
                f"the client has not taken file {path!r}: it may not be written there, the disk is full, "
                "or the client is away; the client's log tells more"
            )


def _value_of(word: str) -> str | bytes:
    if word == "-":
        return sys.stdin.buffer.read()
    try:
        word.encode()
    except UnicodeEncodeError:
        return os.fsencode(word)  # it is no text
    return word


def main(words: Sequence[str] | None = None) -> Never:
    """Run the command; the arguments are those of the process unless they are given."""
    words = sys.argv[1:] if words is None else words
    if list(words) in (["-h"], ["--help"]):
        print(USAGE, end="")
        sys.exit(DONE)
    try:
        run(words, os.environ.get(VARIABLE, ""))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except WrongUse as error:
        print(f"{COMMAND}: {error}\n{USAGE}", end="", file=sys.stderr)
        sys.exit(WRONG)
    except (Refused, NotSent) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        sys.exit(REFUSED)
    except OSError as error:
        name = "" if error.filename is None else f"file {error.filename!r} cannot be sent: "
        print(f"{COMMAND}: {name}{error.strerror or error}", file=sys.stderr)
        sys.exit(REFUSED)
    sys.exit(DONE)
