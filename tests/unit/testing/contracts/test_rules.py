from __future__ import annotations

from abc import ABC, abstractmethod

import pytest
import trio
import trio.testing

from dispy.interfaces import API_VERSION
from dispy_testing.contracts.rules import (
    ContractViolation,
    check_identity,
    is_text,
    patience,
    require,
    unwrapping,
)


class Base(ABC):
    @abstractmethod
    def work(self) -> None: ...


class Good(Base):
    NAME = "good"
    API_VERSION = API_VERSION

    def work(self) -> None:
        """Do it."""


class Nameless(Good):
    NAME = None  # type: ignore[assignment]


class Shouting(Good):
    NAME = "GOOD"


class Spaced(Good):
    NAME = "good one"


class Old(Good):
    API_VERSION = API_VERSION + 1


class Lazy(Base):
    NAME = "lazy"
    API_VERSION = API_VERSION


class Stranger:
    NAME = "stranger"
    API_VERSION = API_VERSION


def test_require() -> None:
    require(True, "a rule")
    with pytest.raises(ContractViolation, match="a rule"):
        require(False, "a rule")
    assert issubclass(ContractViolation, AssertionError)


def test_is_text() -> None:
    assert is_text("")
    assert not is_text(b"")


def test_patience_ends() -> None:
    async def main() -> None:
        with patience("something must happen"):
            await trio.lowlevel.checkpoint()
        with (
            pytest.raises(ContractViolation, match="something must happen"),
            patience("something must happen"),
        ):
            await trio.sleep_forever()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_violations_are_taken_out_of_groups() -> None:
    violation = ContractViolation("a rule")
    with pytest.raises(ContractViolation, match="a rule") as caught, unwrapping():
        raise ExceptionGroup("outer", [ValueError(), ExceptionGroup("inner", [violation])])
    assert caught.value is violation


def test_groups_without_a_violation_stay_as_they_are() -> None:
    group = ExceptionGroup("outer", [ValueError()])
    with pytest.raises(ExceptionGroup) as caught, unwrapping():
        raise group
    assert caught.value is group


def test_a_complete_class_passes() -> None:
    check_identity(Good, Base)


@pytest.mark.parametrize(
    ("offered", "rule"),
    [
        (Stranger, "Stranger must be a subclass of Base"),
        (Nameless, "NAME must be lower-case words joined by - or _, not None"),
        (Shouting, "not 'GOOD'"),
        (Spaced, "not 'good one'"),
        (Old, f"API_VERSION must be {API_VERSION}, not {API_VERSION + 1}"),
        (Lazy, "Lazy must implement work"),
    ],
)
def test_what_is_missing_is_named(offered: type[object], rule: str) -> None:
    with pytest.raises(ContractViolation, match=rule):
        check_identity(offered, Base)
