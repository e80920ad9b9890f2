"""The logger of the original: ``dispy.logger``. It writes lines to standard output, for the user of a program.

It is no `logging.Logger`, and needs no configuration.
"""

from __future__ import annotations

import sys
import time
from typing import ClassVar, TextIO

from dispy.errors import UsageError


class Logger:
    """Writes ``date time name - text`` for each message at or above its level.

    Args:
        name: stands in each line.
        stream: where lines go; None means whatever `sys.stdout` is at that moment.
        level: messages below it are dropped.

    Messages take their arguments %-style: ``logger.info("%d jobs", 3)``.
    """

    DEBUG: ClassVar[int] = 10
    INFO: ClassVar[int] = 20
    WARNING: ClassVar[int] = 30
    WARN: ClassVar[int] = WARNING
    ERROR: ClassVar[int] = 40
    CRITICAL: ClassVar[int] = 50
    FATAL: ClassVar[int] = CRITICAL

    def __init__(self, name: str, stream: TextIO | None = None, level: int = INFO) -> None:
        self.name = name
        self.level = level
        self._stream = stream
        self._with_ms = False

    @property
    def stream(self) -> TextIO | None:
        """Where lines go; assign another text stream to send them there, or None for standard output."""
        return sys.stdout if self._stream is None else self._stream

    @stream.setter
    def stream(self, stream: TextIO | None) -> None:
        self._stream = stream

    def setLevel(self, level: int | str) -> None:  # noqa: N802 -- name of the original
        """Drop messages below *level*, a number or the name of one of the constants.

        Raises:
            UsageError: there is no such level.
        """
        found = getattr(self, level.upper(), None) if isinstance(level, str) else level
        if isinstance(found, bool) or not isinstance(found, int):
            raise UsageError(
                f"log level {level!r} is not known; use dispy.logger.DEBUG, INFO, WARNING or ERROR"
            )
        self.level = found

    def show_ms(self, with_ms: bool = True) -> None:
        """Show milliseconds in the time of each line, or not."""
        self._with_ms = bool(with_ms)

    def debug(self, message: object, *args: object) -> None:
        """Write a message for those who look for an error."""
        if self.level <= self.DEBUG:
            self._write(message, args)

    def info(self, message: object, *args: object) -> None:
        """Write a message about what happens."""
        if self.level <= self.INFO:
            self._write(message, args)

    def warning(self, message: object, *args: object) -> None:
        """Write a message about what may be wrong."""
        if self.level <= self.WARNING:
            self._write(message, args)

    def error(self, message: object, *args: object) -> None:
        """Write a message about what is wrong."""
        if self.level <= self.ERROR:
            self._write(message, args)

    def exception(self, message: object, *args: object) -> None:
        """Write an error with the traceback of the exception that is being handled."""
        if self.level <= self.ERROR:
            import traceback  # slow to import, and seldom needed

            self._write(f"{_formatted(message, args)}\n{traceback.format_exc().rstrip()}", ())

    def critical(self, message: object, *args: object) -> None:
        """Write a message after which nothing goes on."""
        if self.level <= self.CRITICAL:
            self._write(message, args)

    warn = warning
    fatal = critical

    def log(self, message: object, *args: object) -> None:
        """Write a message in any case; with a level in front of it, as `logging` has it, if that is high enough."""
        if isinstance(message, int) and args:
            if message < self.level:
                return
            message, *args = args  # type: ignore[assignment]  # a list will do
        self._write(message, tuple(args))

    def _write(self, message: object, args: tuple[object, ...]) -> None:
        now = time.time()
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        if self._with_ms:
            clock = f"{clock}.{int(now % 1 * 1000):03d}"
        stream = self.stream
        if stream is None:
            return  # a program without standard output, such as a service
        try:
            # One call, so that lines of several threads do not mix.
            stream.write(f"{clock} {self.name} - {_formatted(message, args)}\n")
            stream.flush()
        except (OSError, ValueError):
            # The stream is closed, or its reader is gone: there is nobody to tell, and work must go on.
            return


def _formatted(message: object, args: tuple[object, ...]) -> str:
    if not args:
        return str(message)
    try:
        return str(message) % args
    except (TypeError, ValueError):
        return f"{message} {args!r}"  # placeholders that do not fit shall not lose the message


logger = Logger("dispy")
"""The one logger of the process."""
