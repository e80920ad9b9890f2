"""Records of `logging` that jobs make, told to the client.

Imported only if the client wants them. They are caught where loggers hand records to handlers, behind levels and
filters, so that handlers of the job work as ever and `logging.basicConfig` finds none that it did not make.
"""

from __future__ import annotations

import json
import logging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NAME_CHARS = 200
TEXT_CHARS = 8000
"""Longest message, and longest text of an exception; the rest is cut."""


def forward(level: int, tell: Callable[[bytes], None]) -> None:
    """Have records from *level* on told, in this process and its children, besides what is done with them.

    Args:
        tell: takes a record, as the client reads it.
    """
    root = logging.getLogger()
    if logging.NOTSET < level < root.level:
        root.setLevel(level)
    hand_on = logging.Logger.callHandlers

    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        if record.levelno >= level:
            try:
                tell(pack(record))
            except Exception:
                # As with any handler: said on stderr of the job, which goes on.
                logging.Handler().handleError(record)
        hand_on(self, record)

    logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign]


def pack(record: logging.LogRecord) -> bytes:
    """Turn a record into bytes: JSON of name, level, message, time and text of the exception."""
    text = record.exc_text or ""
    if record.exc_info and not text:
        text = logging.Formatter().formatException(record.exc_info)
    parts = [record.name[:NAME_CHARS], record.levelno, record.getMessage()[:TEXT_CHARS], record.created]
    parts.append(text if len(text) <= TEXT_CHARS else "... " + text[-TEXT_CHARS:])
    plain = [part.encode("utf-8", "replace").decode() if isinstance(part, str) else part for part in parts]
    return json.dumps(plain, ensure_ascii=False).encode()
