"""What jobs print, taken out of the pipes of their children."""

from __future__ import annotations

import os

from dispy_node.runner.output import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dispy_node.runner.offspring import Offspring

PIPE_BYTES = 64 * 1024
"""A pipe holds no more."""
READS_AT_END = 64
"""So many times a pipe is read when a job has ended: a process that escaped from it may be writing for ever."""


def read_some(child: Offspring, descriptor: int, limit_bytes: int) -> bool:
    """Read once from one of a child's pipes, for its oldest job.

    Args:
        child: whose output it is.
        descriptor: one of its pipes.
        limit_bytes: how much of each stream of a job is kept.

    Returns:
        False if nothing will come any more, because every writer has closed it.
    """
    try:
        data = os.read(descriptor, PIPE_BYTES)
    except BlockingIOError:
        return True
    if data:
        _keep(child, descriptor, limit_bytes, data)
    return bool(data)


def read_to_end(child: Offspring, limit_bytes: int) -> None:
    """Read what a child's oldest job has left in the pipes."""
    for descriptor in (child.stdout, child.stderr):
        try:
            for _ in range(READS_AT_END):
                data = os.read(descriptor, PIPE_BYTES)
                if not data:
                    break
                _keep(child, descriptor, limit_bytes, data)
        except BlockingIOError:
            # That was all.
            continue


def take(child: Offspring) -> tuple[bytes, bytes]:
    """Give what a child's oldest job has printed, and begin anew."""
    stdout = child.out.render() if child.out is not None else b""
    stderr = child.err.render() if child.err is not None else b""
    child.out = child.err = None
    return stdout, stderr


def _keep(child: Offspring, descriptor: int, limit_bytes: int, data: bytes) -> None:
    if descriptor == child.stdout:
        if child.out is None:
            child.out = Output(limit_bytes)
        child.out.add(data)
    else:
        if child.err is None:
            child.err = Output(limit_bytes)
        child.err.add(data)
