"""Exit statuses."""

from __future__ import annotations

import pytest

from dispy.errors import (
    DispyError,
    InvalidComputation,
    NoNodesError,
    PluginNotInstalled,
    TransportError,
    UsageError,
)
from dispy_cli.exits import Stopped, status_of


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("x"), 2),
        (InvalidComputation("x"), 2),
        (PluginNotInstalled("x", "tcp"), 2),
        (NoNodesError("x"), 3),
        (TransportError("x"), 1),
        (DispyError("x"), 1),
    ],
)
def test_status_of_errors(error: DispyError, status: int) -> None:
    assert status_of(error) == status


def test_signal_is_told_as_shells_do() -> None:
    assert Stopped(15).exit_status == 143
