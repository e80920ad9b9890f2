"""What went wrong, in words for the person who can mend it: what, where, and what to do."""

from __future__ import annotations

import errno
import os
import sys

from dispy_node.runner.bare import signals
from dispy_node.runner.lines import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

TRACE_LINES = 12
"""How much of a traceback is shown where it stands in a message."""


def signal_name(number: int) -> str:
    """Name a signal, such as ``SIGSEGV``, without ``signal``, which imports ``enum``."""
    names: list[str] = [
        name
        for name, value in vars(signals).items()
        if name.startswith("SIG") and not name.startswith("SIG_") and value == number
    ]
    # The alphabet prefers the usual ones: SIGABRT to SIGIOT, SIGCHLD to SIGCLD, SIGIO to SIGPOLL.
    return min(names, default="a real-time signal")


def death(code: int) -> str:
    """Say how a process ended that owed a result.

    Args:
        code: its exit status, or minus the signal's number.
    """
    if code >= 0:
        return f"the job's process exited with status {code} without a result (os._exit?)"
    text = f"the job's process was killed by signal {-code} ({signal_name(-code)})"
    if -code == signals.SIGKILL:
        text += ": is the node out of memory?"
    return text


def excess(limit: int, allowed: str, used: str, place: str) -> str:
    """Say which limit a job has gone beyond.

    Args:
        limit: its number, as in `dispy_node.runner.limits`.
        allowed: what it may use, with the unit.
        used: what it has used; empty if that says no more.
    """
    found = f", it was found to use {used}" if used else ""
    did, name = {
        1: (f"ran for longer than {allowed}", "timeout"),
        2: (f"used more than {allowed} of processors' time", "cpu_time"),
        3: (f"used more than {allowed} of memory", "memory"),
        4: (f"had more than {allowed} processes at a time", "processes"),
    }[limit]
    return (
        f"the job {did} on {place}{found}, and was ended: give it less to do, or set another limit ({name})"
    )


def unwatchable(place: str) -> str:
    """Say that limits other than of time cannot be kept."""
    return (
        f"what a job uses cannot be seen on {place}, which has no lists of children in /proc (Linux has them): "
        "leave out memory, cpu_time and processes"
    )


def amount(size_bytes: int) -> str:
    """Write an amount of memory."""
    value, units = float(size_bytes), ["bytes", "kB", "MB", "GB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{value:.4g} {units[0]}"


def missing(error: ImportError, place: str) -> str:
    """Say which module is not where it is needed."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        name = error.name
        return (
            f"ModuleNotFoundError: module {name!r} is not installed on {place}: "
            f"install it there or ship it with depends=[...]"
        )
    return f"{type(error).__name__}: {error} on {place}: install there what is missing"


def bundle(error: BaseException, place: str) -> str:
    """Say why the code of a computation cannot be loaded."""
    if isinstance(error, ImportError):
        return missing(error, place)
    return f"the computation cannot be loaded on {place}: {brief(error)}"


def not_born(error: BaseException, place: str) -> str:
    """Say why a process that was not forked cannot take jobs."""
    return (
        f"{bundle(error, place)} (in a process that was not forked, to which the code, and the global variables that "
        "setup has set, were sent)"
    )


def lacking(name: str, reason: str) -> str:
    """Say why a job misses a global variable."""
    return (
        f"setup has set {name!r}, which jobs that are not forked (start_method='spawn') do not have, "
        f"because it cannot be sent to them: {reason}. Make it in the job itself, keep it in a file, "
        "or have setup serve it from a multiprocessing.Manager"
    )


def arguments(error: BaseException, place: str) -> str:
    """Say why the arguments of a job cannot be loaded."""
    if type(error).__name__ == "NotCarried":
        return str(error)
    if isinstance(error, ImportError):
        return f"the job's arguments cannot be loaded: {missing(error, place)}"
    text = f"the job's arguments cannot be loaded on {place}: {brief(error)}"
    if isinstance(error, AttributeError):
        text += "; ship the class or function that they need with depends=[...]"
    return text


def add_hint(error: BaseException, place: str) -> None:
    """Tell in a note on an exception that a job raised what may be missing at the node, and what to do."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        hint = missing(error, place).partition(": ")[2]
    elif isinstance(error, NameError) and not isinstance(error, UnboundLocalError) and error.name:
        hint = (
            f"there is no {error.name!r} on {place}: if your program has it, name it in depends=[...], "
            "or have setup make it global"
        )
    elif isinstance(error, AttributeError) and error.name and _is_main(error.obj):
        hint = f"there is no {error.name!r} in the main module on {place}: name it in depends=[...]"
    elif isinstance(error, FileNotFoundError) and isinstance(error.filename, str):
        hint = (
            f"there is no {error.filename!r} on {place}: a file of the client is there if depends=[...] names it, "
            "under its relative path"
        )
    else:
        return
    try:
        error.add_note(f"dispy: {hint}")
    except Exception:
        # A class of the user's that lets nobody set attributes: then it goes without.
        return


def _is_main(value: object) -> bool:
    return value is sys.modules.get("__main__")


def setup_arguments(error: BaseException, place: str) -> str:
    """Say why the arguments of setup cannot be loaded."""
    if isinstance(error, ImportError):
        return f"setup_args cannot be loaded: {missing(error, place)}"
    return f"setup_args cannot be loaded on {place}: {brief(error)}; ship what they need with depends=[...]"


def bad_setup(value: object, place: str) -> str:
    """Say that setup has returned what does not mean success."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"something of type {type(value).__name__} ({brief(error)})"
    shown = text if len(text) <= 100 else text[:100] + "..."
    return f"setup has returned {shown} on {place}: end it with return 0 if the node can be used"


def prepared(role: str, error: BaseException, place: str, own: str, sources: Mapping[str, str]) -> str:
    """Say how setup or cleanup has failed, with the end of the traceback; the arguments are those of `trace`."""
    if isinstance(error, SystemExit):
        code = "" if error.code is None else repr(error.code)
        first = f"{role} has called sys.exit({code}) on {place}"
    elif isinstance(error, ImportError):
        first = f"{role} has failed: {missing(error, place)}"
    else:
        first = f"{role} has failed on {place}: {brief(error)}"
    lines = trace(error, own, sources).rstrip().split("\n")
    if len(lines) > TRACE_LINES:
        lines = ["...", *lines[-TRACE_LINES:]]
    return "\n".join([first, *("    " + line for line in lines)])


def trace(error: BaseException, own: str, sources: Mapping[str, str]) -> str:
    """Give the text of an exception's traceback.

    Args:
        error: the exception.
        own: the file whose frames at the outer end are ours, and of no interest.
        sources: file name as it stands in tracebacks -> source text, as far as it came along.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == own:
        trace = trace.tb_next
    try:
        import linecache
        import traceback

        cache(linecache, sources)
        error = error.with_traceback(trace)
        return "".join(traceback.format_exception(type(error), error, trace))
    except Exception as second:
        return f"{brief(error)}\n(its traceback cannot be shown: {brief(second)})\n"


def unpicklable(value: object, error: BaseException, place: str) -> str:
    """Say why a result cannot be sent."""
    kind = type(value)
    return (
        f"the job's result, of type {kind.__module__}.{kind.__qualname__}, cannot be pickled on {place} "
        f"({brief(error)}): return plain data instead"
    )


def lazy_result(kind: str, name: str) -> str:
    """Say why a function that returns a coroutine or generator is no computation."""
    if kind == "coroutine":
        return f"{name} is an async def function: make it a plain function that calls asyncio.run(...)"
    if kind == "async_generator":
        return f"{name} is an async generator function: make it a plain function that returns a list"
    return f"{name} is a generator function or returns a generator: return a list instead, as list(...) makes one"


def spool(error: OSError, what: str, size: int, place: str) -> str:
    """Say why something large cannot be kept in a file."""
    text = f"{what} ({size} bytes) cannot be stored on {place}: {brief(error)}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        text += "; free disk space there or return less"
    return text


def no_process(error: OSError, place: str) -> str:
    """Say why a job could not be started."""
    remedy = {
        errno.EAGAIN: "raise its limit of processes (ulimit -u), or give it fewer cpus",
        errno.ENOMEM: "it is out of memory: give it fewer cpus",
        errno.EMFILE: "raise its limit of open files (ulimit -n)",
        errno.ENFILE: "the system's limit of open files is reached",
    }.get(error.errno or 0, "look at the node's log")
    return f"no process can be started on {place}: {brief(error)}: {remedy}"


def no_execution(error: OSError, program: str, place: str) -> str:
    """Say why a program cannot be executed."""
    if error.errno == errno.EACCES:
        if os.path.isdir(program):
            return f"program {program!r} is a folder on {place}: name a program"
        return f"program {program!r} may not be executed on {place}: make it executable (chmod +x) before it is sent"
    if error.errno == errno.ENOEXEC:
        return (
            f"program {program!r} has a format that {place} cannot execute: "
            f"build it for that system, or begin a script with a line such as #!/bin/sh"
        )
    if error.errno == errno.ENOENT:
        interpreter = _interpreter(program)
        if interpreter.endswith("\r"):
            return (
                f"program {program!r} has lines that end as on Windows, so {place} looks for {interpreter!r}: "
                f"convert it, as dos2unix does"
            )
        if interpreter:
            return f"program {program!r} needs {interpreter!r}, which is not on {place}: install it there"
        return f"program {program!r} is not on {place}: install it there or ship it with depends=[...]"
    if error.errno == errno.E2BIG:
        return f"the arguments for program {program!r} are too long for {place}: put them into a file"
    return f"program {program!r} cannot be executed on {place}: {brief(error)}"


def _interpreter(program: str) -> str:
    """Read what the first line of a script names as its interpreter; empty if there is none."""
    try:
        with open(program, "rb") as file:
            line = file.readline(256)
    except OSError:
        # The program itself is not there.
        return ""
    words = line[2:].rstrip(b"\n").split(b" ") if line.startswith(b"#!") else []
    words = [word for part in words for word in part.split(b"\t") if word]
    if not words:
        # The file is there and is no script: what is missing is the loader of a dynamically linked program.
        return "the program's dynamic loader or a library"
    return os.fsdecode(words[0])


def brief(error: BaseException) -> str:
    """Give type and text of an exception in one line; a broken ``__str__`` is no reason to fail."""
    try:
        text = str(error)
    except Exception as second:
        text = f"its text cannot be made: {type(second).__name__}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
