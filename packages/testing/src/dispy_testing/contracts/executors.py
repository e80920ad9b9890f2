"""What every executor must do."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dispy.errors import DispyError
from dispy.interfaces import Executor, ExecutorPlan, ExecutorRequest
from dispy_testing.contracts.rules import ContractViolation, check_identity, is_text, require


def check_executor(
    make_executor: Callable[[], Executor],
    possible: Iterable[ExecutorRequest],
    impossible: Iterable[ExecutorRequest] = (),
) -> None:
    """Check an executor on some requests.

    Args:
        make_executor: the class, or a function that gives a new executor.
        possible: requests that it must be able to plan; their folders exist and hold what is needed.
        impossible: requests that it must refuse.

    Raises:
        ContractViolation: it breaks a rule.
    """
    executor = make_executor()
    check_identity(type(executor), Executor)
    for request in possible:
        before = sorted(request.folder.rglob("*"))
        plan = executor.plan(request)
        _check_plan(plan)
        require(
            executor.plan(request) == plan, f"plan must give the same answer for the same request, {request}"
        )
        require(
            sorted(request.folder.rglob("*")) == before,
            f"plan must leave the computation's folder as it is, {request.folder}",
        )
    for request in impossible:
        _check_refusal(executor, request)


def _check_plan(plan: object) -> None:
    if not isinstance(plan, ExecutorPlan):
        raise ContractViolation(f"plan must return an ExecutorPlan, not {plan!r}")
    require(bool(plan.command), "the command that starts the runner must not be empty")
    for name, words in (("command", plan.command), ("program", plan.program)):
        require(
            all(is_text(word) and "\0" not in word for word in words),
            f"the {name} of a plan must be a list of texts without null characters, not {words!r}",
        )
    for variable, value in plan.environment.items():
        require(
            is_text(variable) and is_text(value) and variable != "" and "=" not in variable,
            f"the environment of a plan must map names to texts, but has {variable!r}: {value!r}",
        )


def _check_refusal(executor: Executor, request: ExecutorRequest) -> None:
    try:
        plan = executor.plan(request)
    except DispyError as error:
        require(bool(str(error)), f"a refusal must say why, for {request}")
    except Exception as error:
        raise ContractViolation(f"a refusal must be a DispyError, not {error!r}, for {request}") from error
    else:
        raise ContractViolation(f"plan must refuse {request}, but gave {plan}")
