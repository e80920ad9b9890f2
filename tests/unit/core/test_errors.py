"""The tree of exceptions, as told and as it is."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable

import pytest

from dispy import errors
from dispy.errors import (
    DispyError,
    InvalidComputation,
    InvalidNodes,
    JobDied,
    JobError,
    NotPicklable,
    PluginError,
    PluginNotInstalled,
    SecurityError,
    TransportError,
    UnknownKey,
    UsageError,
)

LEVEL = 4
"""Width of a level of the tree in the module's docstring."""


def told_tree() -> dict[str, str]:
    """Read the tree in the docstring: name -> name of the parent."""
    tree: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"([ │├└─]*)([A-Z]\w+)(?:  .*)?$", line)
        if found is None or not found[1]:
            continue
        depth = len(found[1]) // LEVEL - 1
        path[depth:] = [found[2]]
        tree[found[2]] = path[depth - 1] if depth else "Exception"
    return tree


CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and value.__module__ == errors.__name__
}


def test_the_docstring_tells_the_tree() -> None:
    assert len(CLASSES) > 15
    assert told_tree() == {name: kind.__bases__[0].__name__ for name, kind in CLASSES.items()}


@pytest.mark.parametrize("kind", CLASSES.values(), ids=list(CLASSES))
def test_everything_is_a_dispy_error_and_explained(kind: type[BaseException]) -> None:
    assert issubclass(kind, DispyError)
    assert issubclass(kind, Exception)
    assert kind.__doc__


@pytest.mark.parametrize("kind", [UsageError, InvalidComputation, InvalidNodes, NotPicklable])
def test_wrong_use_is_a_value_error(kind: type[Exception]) -> None:
    assert issubclass(kind, ValueError)


def test_what_cannot_be_pickled_is_a_type_error_too() -> None:
    assert issubclass(NotPicklable, TypeError)


def test_a_missing_plugin_is_told_with_the_command_that_brings_it() -> None:
    error = PluginNotInstalled("the transport 'tls'", "tls")
    assert str(error) == (
        "the transport 'tls' is not installed; install it with: pip install 'dispy-core[tls]'"
    )
    assert (error.feature, error.extra) == ("the transport 'tls'", "tls")
    assert isinstance(error, PluginError)


def test_a_death_has_a_code() -> None:
    error = JobDied("killed by signal 9", -9)
    assert (str(error), error.exit_code) == ("killed by signal 9", -9)
    assert JobDied("gone").exit_code == 0
    assert isinstance(error, JobError)


def test_a_death_keeps_its_code_when_it_is_copied() -> None:
    for made in (pickle.loads(pickle.dumps(JobDied("gone", 3))), copy.copy(JobDied("gone", 3))):
        assert (str(made), made.exit_code) == ("gone", 3)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_a_missing_plugin_is_told_the_same_when_it_is_copied(
    copied: Callable[[PluginNotInstalled], PluginNotInstalled],
) -> None:
    error = PluginNotInstalled("the transport 'tls'", "tls")
    made = copied(error)
    assert type(made) is PluginNotInstalled
    assert (str(made), made.feature, made.extra) == (str(error), error.feature, error.extra)


def test_who_is_refused_is_not_connected() -> None:
    """Code that tries another address after a failure does so whatever the failure is."""
    assert issubclass(UnknownKey, SecurityError)
    assert issubclass(SecurityError, TransportError)
