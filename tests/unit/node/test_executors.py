"""The executors that dispy brings."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dispy.errors import UsageError
from dispy.interfaces import ExecutorRequest
from dispy_node.executors import FunctionExecutor, ProgramExecutor


def request_for(folder: Path, name: str) -> ExecutorRequest:
    return ExecutorRequest(name=name, folder=folder, isolation="process")


def test_functions_run_by_the_runner(tmp_path: Path) -> None:
    plan = FunctionExecutor().plan(request_for(tmp_path, "compute"))
    assert plan.command == [sys.executable, "-m", "dispy_node.runner"]
    assert plan.program == []


def test_python_programs_run_with_this_interpreter(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("print(1)")
    plan = ProgramExecutor().plan(request_for(tmp_path, "job.py"))
    assert plan.program == [sys.executable, str(tmp_path / "job.py")]
    assert plan.environment["PATH"].startswith(str(tmp_path))


def test_other_programs_run_directly(tmp_path: Path) -> None:
    (tmp_path / "job").write_text("#!/bin/sh\n")
    (tmp_path / "job").chmod(0o755)
    assert ProgramExecutor().plan(request_for(tmp_path, "job")).program == [str(tmp_path / "job")]


def test_program_that_cannot_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did not arrive"):
        ProgramExecutor().plan(request_for(tmp_path, "job"))
    (tmp_path / "job").write_text("data")
    with pytest.raises(UsageError, match="not executable"):
        ProgramExecutor().plan(request_for(tmp_path, "job"))
