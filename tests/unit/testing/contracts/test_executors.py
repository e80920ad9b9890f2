from __future__ import annotations

from pathlib import Path

import pytest

from dispy.errors import UsageError
from dispy.interfaces import API_VERSION, Executor, ExecutorPlan, ExecutorRequest
from dispy_testing.contracts import ContractViolation, check_executor


class Shell(Executor):
    NAME = "shell"
    API_VERSION = API_VERSION

    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        if not request.name.endswith(".sh"):
            raise UsageError(f"{request.name!r} is not a shell script")
        return ExecutorPlan(["runner"], {"LANG": "C"}, ["sh", request.name])


class NoPlan(Shell):
    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        return None  # type: ignore[return-value]


class NoCommand(Shell):
    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        return ExecutorPlan([])


class NotText(Shell):
    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        return ExecutorPlan(["runner"], {}, [request.folder])  # type: ignore[list-item]


class BadVariable(Shell):
    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        return ExecutorPlan(["runner"], {"A=B": "C"})


class Writes(Shell):
    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        (request.folder / "plan").write_text("")
        return ExecutorPlan(["runner"])


class Changes(Shell):
    count = 0

    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        self.count += 1
        return ExecutorPlan(["runner", str(self.count)])


class Crashes(Shell):
    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        if request.name == "good.sh":
            return super().plan(request)
        raise KeyError(request.name)


class Speechless(Shell):
    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        if request.name == "good.sh":
            return super().plan(request)
        raise UsageError


@pytest.fixture
def good(tmp_path: Path) -> ExecutorRequest:
    return ExecutorRequest("good.sh", tmp_path, "process")


@pytest.fixture
def bad(tmp_path: Path) -> ExecutorRequest:
    return ExecutorRequest("bad.exe", tmp_path, "process")


def test_an_executor_that_keeps_the_contract(good: ExecutorRequest, bad: ExecutorRequest) -> None:
    check_executor(Shell, [good], [bad])


@pytest.mark.parametrize(
    ("executor", "rule"),
    [
        (NoPlan, "plan must return an ExecutorPlan, not None"),
        (NoCommand, "the command that starts the runner must not be empty"),
        (NotText, "the program of a plan must be a list of texts"),
        (BadVariable, "the environment of a plan must map names to texts"),
        (Writes, "plan must leave the computation's folder as it is"),
        (Changes, "plan must give the same answer for the same request"),
        (Crashes, "a refusal must be a DispyError, not KeyError"),
        (Speechless, "a refusal must say why"),
    ],
)
def test_violations_are_named(
    executor: type[Executor], rule: str, good: ExecutorRequest, bad: ExecutorRequest
) -> None:
    with pytest.raises(ContractViolation, match=rule):
        check_executor(executor, [good], [bad])


def test_refusals_are_demanded(good: ExecutorRequest) -> None:
    with pytest.raises(ContractViolation, match="plan must refuse"):
        check_executor(Shell, [], [good])
