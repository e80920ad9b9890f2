"""A job that is the run of a program."""

from __future__ import annotations

import os
import struct

from dispy_node.runner import explain
from dispy_node.runner.bare import signals
from dispy_node.runner.desk import program_environment
from dispy_node.runner.frames import CARRIES, SPOOLED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never

    from dispy_node.runner.settings import Settings

COUNT = struct.Struct("<I")


class NotExecuted(Exception):
    """The program could not be started; the message is for the user."""


def decode_arguments(body: bytes) -> list[str]:
    """Undo the client's packing: a count, then each argument followed by a zero byte.

    Raises:
        ValueError: the count does not fit.
    """
    if len(body) < COUNT.size:
        raise ValueError("the arguments of the program are cut off")
    (count,) = COUNT.unpack_from(body)
    parts = body[COUNT.size :].split(b"\0")
    if len(parts) != count + 1 or parts[-1]:
        raise ValueError("the arguments of the program are cut off")
    return [part.decode("utf-8", "surrogateescape") for part in parts[:-1]]


def _unpack(settings: Settings, job: int, attempt: int, kind: int, body: bytes) -> bytes:
    from dispy_node.runner.carried import Carried, NotCarried

    try:
        with Carried(settings, job, attempt).unpack(kind, body, None) as source:
            return source.read()
    except NotCarried as error:
        raise NotExecuted(str(error)) from error


def execute(settings: Settings, job: int, attempt: int, kind: int, body: bytes) -> Never:
    """Become the program; descriptors, folder and session are already those of the job.

    Raises:
        NotExecuted: this is still the same process, and says why.
    """
    if kind & CARRIES:
        body = _unpack(settings, job, attempt, kind, body)
    elif kind & SPOOLED:
        path = body
        with open(path, "rb") as file:
            os.unlink(path)
            body = file.read()
    os.environ.update(
        program_environment(settings, job, attempt),
        dispy_node_name=settings.node,
        dispy_node_ip_addr=settings.address,
        dispy_job_path=settings.folder,
    )
    if settings.live:
        os.environ["PYTHONUNBUFFERED"] = "1"  # other programs have no such switch in common
    try:
        command = settings.program + decode_arguments(body)
    except ValueError as error:
        raise NotExecuted(str(error)) from error
    numbers = [getattr(signals, name) for name in ("SIGPIPE", "SIGXFSZ") if hasattr(signals, name)]
    for number in numbers:  # Python ignores these, programs expect to die of them
        signals.signal(number, signals.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise NotExecuted(explain.no_execution(error, command[0], settings.place)) from error
    except ValueError as error:
        raise NotExecuted(f"program {command[0]!r} cannot be given these arguments: {error}") from error
    finally:
        for number in numbers:
            signals.signal(number, signals.SIG_IGN)
