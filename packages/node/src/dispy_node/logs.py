"""The log of a daemon: one line per event on standard error, for people or as JSON."""

from __future__ import annotations

import json
import logging
import sys


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (seconds since the epoch), level, logger, text."""

    def format(self, record: logging.LogRecord) -> str:
        """Format *record* as a line."""
        entry = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "text": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def set_up_logging(*, level: str, json_lines: bool) -> None:
    """Send the log of dispy's loggers at *level* and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    if json_lines:
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logger = logging.getLogger("dispy")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
