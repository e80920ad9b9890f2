"""Explanations name what, where and what to do."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from dispy_node.runner import explain

PLACE = "node pc7 (Python 3.12.1)"


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGTERM", "SIGINT", "SIGBUS", "SIGFPE", "SIGXCPU"])
def test_signals_have_names(name: str) -> None:
    assert explain.signal_name(getattr(signal, name)) == name


def test_other_signals_are_real_time_ones() -> None:
    assert explain.signal_name(40) == "a real-time signal"


def test_every_signal_is_given_one_of_its_names() -> None:
    for number in signal.Signals:
        name = explain.signal_name(number)
        assert getattr(signal, name) == number


def test_deaths() -> None:
    assert explain.death(3) == "the job's process exited with status 3 without a result (os._exit?)"
    assert explain.death(-11) == "the job's process was killed by signal 11 (SIGSEGV)"
    assert explain.death(-9).endswith("(SIGKILL): is the node out of memory?")


def test_missing_modules() -> None:
    remedy = f"is not installed on {PLACE}: install it there or ship it with depends=[...]"
    error = ModuleNotFoundError("No module named 'nowhere'", name="nowhere")
    assert explain.missing(error, PLACE) == f"ModuleNotFoundError: module 'nowhere' {remedy}"
    assert explain.bundle(error, PLACE) == explain.missing(error, PLACE)
    assert explain.arguments(error, PLACE).endswith(explain.missing(error, PLACE))
    other = ImportError("cannot import name 'f' from 'm'")
    assert explain.missing(other, PLACE) == (
        f"ImportError: cannot import name 'f' from 'm' on {PLACE}: install there what is missing"
    )


def test_code_that_raises_when_it_is_loaded() -> None:
    text = explain.bundle(ZeroDivisionError("by zero"), PLACE)
    assert text == f"the computation cannot be loaded on {PLACE}: ZeroDivisionError: by zero"


def test_arguments_that_need_a_class() -> None:
    text = explain.arguments(AttributeError("no Box"), PLACE)
    assert text == (
        f"the job's arguments cannot be loaded on {PLACE}: AttributeError: no Box; "
        "ship the class or function that they need with depends=[...]"
    )
    assert "depends" not in explain.arguments(EOFError("end"), PLACE)


def test_results_that_cannot_be_pickled() -> None:
    text = explain.unpicklable(iter([]), TypeError("no"), PLACE)
    assert text == (
        f"the job's result, of type builtins.list_iterator, cannot be pickled on {PLACE} "
        "(TypeError: no): return plain data instead"
    )


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("coroutine", "f is an async def function: make it a plain function that calls asyncio.run(...)"),
        ("async_generator", "f is an async generator function: make it a plain function that returns a list"),
        ("generator", "f is a generator function or returns a generator: return a list instead"),
    ],
)
def test_results_that_have_not_run(kind: str, words: str) -> None:
    assert explain.lazy_result(kind, "f").startswith(words)


@pytest.mark.parametrize(("number", "has_remedy"), [("ENOSPC", True), ("EDQUOT", True), ("EACCES", False)])
def test_files_that_cannot_be_written(number: str, has_remedy: bool) -> None:
    text = explain.spool(OSError(getattr(errno, number), "why"), "the job's result", 7000, PLACE)
    assert text.startswith(f"the job's result (7000 bytes) cannot be stored on {PLACE}: ")
    assert text.endswith("; free disk space there or return less") is has_remedy


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EAGAIN, "ulimit -u"),
        (errno.ENOMEM, "out of memory"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "limit of open files is reached"),
        (errno.EPERM, "look at the node's log"),
    ],
)
def test_processes_that_cannot_be_started(number: int, remedy: str) -> None:
    text = explain.no_process(OSError(number, os.strerror(number)), PLACE)
    assert text.startswith(f"no process can be started on {PLACE}: ")
    assert os.strerror(number) in text
    assert remedy in text


def no_execution(number: int, program: str | Path) -> str:
    return explain.no_execution(OSError(number, os.strerror(number)), str(program), PLACE)


def test_programs_that_may_not_be_executed(tmp_path: Path) -> None:
    assert f"is a folder on {PLACE}: name a program" in no_execution(errno.EACCES, tmp_path)
    assert "make it executable (chmod +x) before it is sent" in no_execution(errno.EACCES, tmp_path / "p")


def test_programs_of_a_foreign_format() -> None:
    assert "build it for that system, or begin a script with a line" in no_execution(errno.ENOEXEC, "p")


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (b"#!/opt/nowhere/python3 -u\nprint()\n", "needs '/opt/nowhere/python3', which is not on"),
        (b"#! /usr/bin/nowhere\n", "needs '/usr/bin/nowhere', which is not on"),
        (b"\x7fELF...", 'needs "the program\'s dynamic loader or a library"'),
        (b"#!\n", "dynamic loader"),
    ],
)
def test_programs_without_their_interpreter(tmp_path: Path, content: bytes, missing: str) -> None:
    program = tmp_path / "program"
    program.write_bytes(content)
    assert missing in no_execution(errno.ENOENT, program)


def test_programs_that_are_not_there(tmp_path: Path) -> None:
    text = no_execution(errno.ENOENT, tmp_path / "program")
    assert text.endswith(f"is not on {PLACE}: install it there or ship it with depends=[...]")


def test_other_troubles_of_programs() -> None:
    assert no_execution(errno.E2BIG, "p").endswith("put them into a file")
    assert no_execution(errno.EIO, "p").startswith(f"program 'p' cannot be executed on {PLACE}: OSError")


def test_brief() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert explain.brief(ValueError("why")) == "ValueError: why"
    assert explain.brief(ValueError()) == "ValueError"
    assert explain.brief(Odd()) == "Odd: its text cannot be made: RuntimeError"
