"""Records of `logging` that jobs make, handled by the loggers of the client.

They travel as JSON, never as pickles: name, level, message, time (seconds since the epoch, the node's clock), text of
the exception.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from dispy.errors import UsageError
from dispy.logger import logger

if TYPE_CHECKING:
    from dispy.engine.effects import TellLog

NAMES = 1000
"""Loggers that the jobs of a cluster may have made here: they are never forgotten. What is of others goes to OTHERS."""

OTHERS = "dispy.jobs"

WAITING = 10_000
"""Records that wait for slow handlers; of more, it is told how many were dropped."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A record as it travels."""

    name: str
    level: int
    message: str
    created: float
    exc_text: str


def checked_level(value: bool | int) -> int:
    """Return the level that ``forward_logs`` means, -1 for none.

    Raises:
        UsageError: it is no level.
    """
    if isinstance(value, bool):
        return logging.NOTSET if value else -1
    if not isinstance(value, int) or value < 0:
        raise UsageError(f"forward_logs={value!r} is no level: give True, False or one such as logging.INFO")
    return value


def make_record(entry: Entry, job: object, node: str) -> logging.LogRecord:
    """Make a record of what a job has logged."""
    record = logging.LogRecord(entry.name, entry.level, "", 0, entry.message, None, None)
    record.created = entry.created
    record.msecs = entry.created % 1 * 1000
    record.exc_text = entry.exc_text or None
    record.dispy_job = job
    record.dispy_node = node
    return record


class LogCalls:
    """Has records handled, in order.

    Args:
        call_soon: has a function called in the thread for callbacks, with these arguments.
    """

    def __init__(self, call_soon: Callable[..., None]) -> None:
        self._call_soon = call_soon
        self._names: set[str] = set()
        self._lock = threading.Lock()
        self._waiting = 0
        self._dropped = 0

    def take(self, log: TellLog) -> None:
        """Take a record; in the engine's thread."""
        with self._lock:
            if self._waiting >= WAITING:
                self._dropped += 1 + log.missed
                return
            self._waiting += 1
            dropped, self._dropped = self._dropped + log.missed, 0
        self._call_soon(self.forward_log, log, dropped)

    def forward_log(self, log: TellLog, dropped: int) -> None:
        """Have a record handled; in the thread for callbacks, where the name of this is logged if a handler raises."""
        with self._lock:
            self._waiting -= 1
        try:
            entry = msgspec.json.decode(log.body, type=Entry)
        except msgspec.DecodeError as error:
            logger.warning("what job %s has logged cannot be read: %s", log.job.id, error)
            return
        if dropped > 0:
            logger.warning("%d records that jobs have logged were dropped: too many at once", dropped)
        record = make_record(entry, log.job.handle, log.node.name)
        logging.getLogger(self._known(entry.name)).handle(record)

    def _known(self, name: str) -> str:
        if name in self._names or len(self._names) < NAMES:
            self._names.add(name)
            return name
        return OTHERS
