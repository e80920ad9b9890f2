"""What a job can do while it runs, for code that imports names rather than finds them in its namespace.

from dispy.job import provisional_result, send_file


def compute(n):
    provisional_result(n / 2)
    ...

Everything here works only while a job runs, in the process of that job.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Protocol

from dispy.errors import UsageError

if TYPE_CHECKING:
    import logging

RUNNER_NAME = "__dispy_job__"
"""Under this name the runner leaves an object in the main module of jobs."""


class _Inside(Protocol):
    node_name: str
    node_ip_addr: str
    job_path: str
    logger: Any

    def provisional_result(self, value: object) -> int: ...
    def send_file(self, path: str | os.PathLike[str]) -> int: ...


def provisional_result(value: object) -> int:
    """Send an intermediate result to the client and go on; it arrives before all that is sent later.

    Returns:
        0; -1 if it could not be sent: the client is away for long, or the disk of the node is full.

    Raises:
        TypeError: it cannot be sent as results are.
        UsageError: no job runs here.
    """
    return _find("provisional_result").provisional_result(value)


def send_file(path: str | os.PathLike[str]) -> int:
    """Send a file to the client and wait until it is there.

    A file of the job's folder goes to the same relative path below the client's working directory, any other to the
    top of that, under its base name. An existing file is replaced.

    Returns:
        0 if the client has it; -1 if it could not be sent, or the client could not or would not take it.

    Raises:
        OSError: there is no such file, or it cannot be read.
        UsageError: no job runs here.
    """
    return _find("send_file").send_file(path)


def node_name() -> str:
    """Return the name of the node.

    Raises:
        UsageError: no job runs here.
    """
    return _find("node_name").node_name


def node_ip_addr() -> str:
    """Return the address of the node, as the client reaches it.

    Raises:
        UsageError: no job runs here.
    """
    return _find("node_ip_addr").node_ip_addr


def job_path() -> str:
    """Return the absolute path of the computation's folder, in which jobs run.

    Raises:
        UsageError: no job runs here.
    """
    return _find("job_path").job_path


def node_logger() -> logging.Logger:
    """Return a logger whose lines appear in the log of the node.

    Raises:
        UsageError: no job runs here.
    """
    logger: logging.Logger = _find("node_logger").logger
    return logger


def _find(what: str) -> _Inside:
    inside: _Inside | None = getattr(sys.modules.get("__main__"), RUNNER_NAME, None)
    if inside is None:
        raise UsageError(
            f"{what}() works only while a job runs: call it in the function that the cluster distributes"
        )
    return inside
