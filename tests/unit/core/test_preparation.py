"""What may be given as setup, cleanup and setup_timeout."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import pytest

from dispy.errors import UsageError
from dispy.packing.preparation import Preparation, checked_timeout, make_preparation


def prepare(path: str, size: int = 1) -> int:
    return 0


async def wait() -> None: ...


def generate() -> Iterator[int]:
    yield 1


class Preparer:
    def __call__(self) -> int:
        return 0

    def method(self) -> int:
        return 0


def test_nothing_is_prepared_by_default() -> None:
    assert make_preparation(None, True) == Preparation()
    assert Preparation().functions == {}


def test_functions_and_partials_of_them() -> None:
    partial = functools.partial(functools.partial(prepare), "data")
    made = make_preparation(prepare, partial)
    assert made.functions == {"setup": prepare, "cleanup": partial}
    assert make_preparation(lambda: 0, True).functions.keys() == {"setup"}
    assert make_preparation(None, prepare).functions == {"cleanup": prepare}


@pytest.mark.parametrize(
    "value", [1, "setup", len, dict, Preparer(), Preparer().method, functools.partial(len), True]
)
def test_what_is_no_plain_function(value: Any) -> None:
    with pytest.raises(UsageError, match=r"setup=.* is not a plain function: give a function"):
        make_preparation(value, True)


@pytest.mark.parametrize("value", [None, 0, "yes", len])
def test_what_is_no_cleanup(value: Any) -> None:
    with pytest.raises(
        UsageError, match=r"cleanup=.* is not a plain function: give True, False or a function"
    ):
        make_preparation(None, value)


def test_files_may_be_kept_instead() -> None:
    assert make_preparation(None, False) == Preparation()


@pytest.mark.parametrize("function", [wait, generate, functools.partial(wait)])
def test_functions_whose_call_runs_nothing(function: Any) -> None:
    with pytest.raises(UsageError, match="a call of which runs nothing: make it a plain function"):
        make_preparation(function, True)


@pytest.mark.parametrize("args", [("a",), ("a", 2)])
def test_arguments_that_fit(args: tuple[Any, ...]) -> None:
    make_preparation(prepare, prepare).check_arguments(args, "node 'n'")


@pytest.mark.parametrize("args", [(), (1, 2, 3)])
def test_arguments_that_do_not_fit(args: tuple[Any, ...]) -> None:
    with pytest.raises(
        UsageError, match=rf"'prepare' cannot be called with the {len(args)} setup_args of node 'n'"
    ):
        make_preparation(None, prepare).check_arguments(args, "node 'n'")
    with pytest.raises(UsageError, match="setup function 'prepare'"):
        make_preparation(functools.partial(prepare), True).check_arguments(args, "node 'n'")


@pytest.mark.parametrize("seconds", [1, 0.5, math.inf])
def test_times(seconds: float) -> None:
    assert checked_timeout(seconds) == seconds


@pytest.mark.parametrize("seconds", [0, -1, math.nan, "1", None, True])
def test_what_is_no_time(seconds: Any) -> None:
    with pytest.raises(UsageError, match="setup_timeout must be a number of seconds above 0, not"):
        checked_timeout(seconds)
