"""The two ways to run jobs that dispy brings: functions, and programs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import ClassVar

from dispy.errors import UsageError
from dispy.interfaces import API_VERSION, Executor, ExecutorPlan, ExecutorRequest

RUNNER_COMMAND = [sys.executable, "-m", "dispy_node.runner"]


class FunctionExecutor(Executor):
    """Jobs are calls of a Python function."""

    NAME: ClassVar[str] = "function"
    API_VERSION: ClassVar[int] = API_VERSION

    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        """Run the function with this node's interpreter."""
        return ExecutorPlan(command=list(RUNNER_COMMAND))


class ProgramExecutor(Executor):
    """Jobs are runs of a program, which lies in the computation's folder."""

    NAME: ClassVar[str] = "program"
    API_VERSION: ClassVar[int] = API_VERSION

    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        """Run ``.py`` files with this node's interpreter, anything else directly.

        Raises:
            UsageError: the program is not in the folder, or is not executable.
        """
        program = arrived(request)
        if program.suffix == ".py":
            prefix = [sys.executable, str(program)]
        elif os.access(program, os.X_OK):
            prefix = [str(program)]
        else:
            raise UsageError(
                f"program {request.name!r} is not executable; mark it with: chmod +x {request.name}"
            )
        return program_plan(request, prefix)


def arrived(request: ExecutorRequest) -> Path:
    """Give the path of the program that jobs are to run.

    Raises:
        UsageError: it is not in the folder.
    """
    program = request.folder / request.name
    if not program.is_file():
        raise UsageError(f"program {request.name!r} did not arrive at the node")
    return program


def program_plan(request: ExecutorRequest, prefix: list[str]) -> ExecutorPlan:
    """Plan jobs that begin with these words; the computation's folder stands in front of their PATH."""
    return ExecutorPlan(
        command=list(RUNNER_COMMAND),
        environment={"PATH": f"{request.folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"},
        program=prefix,
    )
