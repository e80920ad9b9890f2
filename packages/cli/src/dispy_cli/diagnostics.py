"""Where dispy's own messages go: to standard error, since standard output belongs to the jobs.

There are two sources of messages: `dispy.logger`, which writes to standard output unless told otherwise, as in the
original (A117), and the standard library's logger ``dispy``, for what is not said to users of a cluster.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO, cast

from dispy.logger import logger


class CurrentStderr:
    """A stream to whatever ``sys.stderr`` is at the moment: a progress line puts itself in front of it."""

    def write(self, text: str) -> int:
        """Write *text*."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Flush ``sys.stderr``."""
        sys.stderr.flush()


def log_to_stderr(level: int = logging.WARNING) -> None:
    """Send messages of dispy at *level* and above to standard error, and nowhere else."""
    stream = cast(TextIO, CurrentStderr())
    logger.stream = stream
    logger.setLevel(level)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("dispy: %(message)s"))
    standard = logging.getLogger("dispy")
    standard.handlers[:] = [handler]
    standard.setLevel(level)
    standard.propagate = False
