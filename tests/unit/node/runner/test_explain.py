from __future__ import annotations

import errno
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from dispy.model import Limit
from dispy_node.runner import explain

PLACE = "node there (Python 3.11.7)"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (3, "the job's process exited with status 3 without a result (os._exit?)"),
        (-11, "the job's process was killed by signal 11 (SIGSEGV)"),
        (-9, "the job's process was killed by signal 9 (SIGKILL): is the node out of memory?"),
        (-6, "the job's process was killed by signal 6 (SIGABRT)"),
        (-50, "the job's process was killed by signal 50 (a real-time signal)"),
    ],
)
def test_death(code: int, text: str) -> None:
    assert explain.death(code) == text


@pytest.mark.parametrize("number", sorted({int(number) for number in signal.Signals}))
def test_signals_have_the_names_that_everybody_knows(number: int) -> None:
    """Some have older names as well: 17 is SIGCHLD and not SIGCLD, 29 SIGIO and not SIGPOLL."""
    assert explain.signal_name(number) == signal.Signals(number).name


def test_missing_module_with_remedy() -> None:
    error = ModuleNotFoundError("No module named 'x'", name="x")
    text = (
        "ModuleNotFoundError: module 'x' is not installed on node there (Python 3.11.7): "
        "install it there or ship it with depends=[...]"
    )
    assert explain.bundle(error, PLACE) == text
    assert explain.arguments(error, PLACE) == f"the job's arguments cannot be loaded: {text}"
    assert "ImportError: odd on node there" in explain.bundle(ImportError("odd"), PLACE)


def test_name_missing_in_arguments() -> None:
    assert "depends=[...]" in explain.arguments(AttributeError("no Thing"), PLACE)
    assert "depends" not in explain.arguments(ValueError("bad"), PLACE)


def test_broken_exception_is_named_nevertheless() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise TypeError

    assert explain.brief(Odd()) == "Odd: its text cannot be made: TypeError"
    assert explain.brief(ValueError()) == "ValueError"


def test_disk_that_is_full() -> None:
    text = explain.spool(OSError(errno.ENOSPC, "No space left on device"), "the result", 12, PLACE)
    assert text.startswith("the result (12 bytes) cannot be stored on node there")
    assert text.endswith("free disk space there or return less")


@pytest.mark.parametrize("kind", ["coroutine", "generator", "async_generator"])
def test_lazy_results_have_a_remedy(kind: str) -> None:
    assert explain.lazy_result(kind, "compute").startswith("compute is a")
    assert "instead" in explain.lazy_result(kind, "compute") or "make it" in explain.lazy_result(
        kind, "compute"
    )


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.EAGAIN, "ulimit -u"), (errno.EMFILE, "ulimit -n"), (errno.ENOMEM, "memory"), (errno.EIO, "log")],
)
def test_no_process(number: int, remedy: str) -> None:
    text = explain.no_process(OSError(number, os.strerror(number)), PLACE)
    assert PLACE in text
    assert remedy in text


@pytest.mark.parametrize(
    ("number", "content", "text"),
    [
        (errno.EACCES, b"x", "make it executable (chmod +x)"),
        (errno.ENOEXEC, b"x", "has a format that node there"),
        (errno.ENOENT, None, "is not on node there"),
        (errno.ENOENT, b"#! /opt/x -u\n", "needs '/opt/x', which is not on"),
        (errno.ENOENT, b"\x7fELF", "loader"),
        (errno.E2BIG, b"x", "put them into a file"),
        (errno.EIO, b"x", "cannot be executed"),
    ],
)
def test_no_execution(tmp_path: Path, number: int, content: bytes | None, text: str) -> None:
    program = tmp_path / "program"
    if content is not None:
        program.write_bytes(content)
    told = explain.no_execution(OSError(number, os.strerror(number)), str(program), PLACE)
    assert repr(str(program)) in told
    assert text in told


def test_script_that_was_saved_on_windows(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"#!/bin/sh\r\necho\r\n")
    told = explain.no_execution(OSError(errno.ENOENT, ""), str(tmp_path / "program"), PLACE)
    assert told.endswith(f"so {PLACE} looks for '/bin/sh\\r': convert it, as dos2unix does")


def test_folder_is_no_program(tmp_path: Path) -> None:
    assert "is a folder" in explain.no_execution(OSError(errno.EACCES, ""), str(tmp_path), PLACE)


@pytest.mark.parametrize("limit", Limit)
def test_each_limit_has_words_and_a_remedy(limit: Limit) -> None:
    text = explain.excess(limit, "5 units", "6 units", "node there")
    assert re.fullmatch(
        rf"the job .*5 .* on node there, it was found to use 6 units, and was ended: .*\({limit.name.lower()}\)",
        text,
    )
    assert "found" not in explain.excess(limit, "5 units", "", "node there")


def test_amounts() -> None:
    assert explain.amount(999) == "999 bytes"
    assert explain.amount(2_000_000_000) == "2 GB"
    assert explain.amount(1_536_000) == "1.536 MB"
    assert explain.amount(10**13) == "1e+04 GB"


def test_what_cannot_be_watched_has_a_remedy() -> None:
    assert explain.unwatchable("node there").endswith("leave out memory, cpu_time and processes")


def failure_of(text: str) -> BaseException:
    try:
        exec(text, sys.modules["__main__"].__dict__ if "main" in text else {})
    except BaseException as error:
        return error
    raise AssertionError(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (
            "import nowhere_found",
            "dispy: module 'nowhere_found' is not installed on node n: install it there or ship",
        ),
        (
            "nobody(1)",
            "dispy: there is no 'nobody' on node n: if your program has it, name it in depends=[...]",
        ),
        (
            "__import__('__main__').nobody",
            "dispy: there is no 'nobody' in the main module on node n: name it in",
        ),
        (
            "open('nowhere/x')",
            "dispy: there is no 'nowhere/x' on node n: a file of the client is there if depends=[...] names it",
        ),
    ],
)
def test_what_may_be_missing_is_hinted_at(text: str, hint: str) -> None:
    error = failure_of(text)
    explain.add_hint(error, "node n")
    (note,) = error.__notes__
    assert note.startswith(hint)


@pytest.mark.parametrize(
    "text",
    [
        "1 / 0",
        "(lambda: (x, (x := 1)))()",
        "''.nobody",
        "from os import nobody",
        "raise NameError('x')",
        "raise FileNotFoundError(2, 'x')",
    ],
)
def test_other_errors_have_no_hint(text: str) -> None:
    error = failure_of(text)
    explain.add_hint(error, "node n")
    assert not hasattr(error, "__notes__")


def test_an_exception_that_takes_no_note() -> None:
    class Closed(NameError):
        def add_note(self, note: str) -> None:
            raise TypeError("closed")

    explain.add_hint(Closed("x", name="x"), "node n")
