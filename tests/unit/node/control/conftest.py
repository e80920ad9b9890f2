"""A node whose owner can ask it, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dispy.errors import UsageError
from dispy_node.control.operator import Operator
from dispy_node.daemon import NodeDaemon, NodeIdentity
from dispy_node.storage import StateFolder


def no_executor(name: str) -> Any:
    raise UsageError(f"no executor {name!r} here")


class Owned:
    """A daemon and its operator; `ended` counts how often it was told to end at once."""

    def __init__(self, folder: Path) -> None:
        self.state = StateFolder(folder)
        self.daemon = NodeDaemon(NodeIdentity("worker", 1), self.state, no_executor)
        self.ended = 0
        self.operator = Operator(self.daemon, self.state, ["tcp:0.0.0.0:51348"], self.end, clock=lambda: 7.0)

    def end(self) -> None:
        self.ended += 1


@pytest.fixture
def owned(tmp_path: Path) -> Iterator[Owned]:
    made = Owned(tmp_path / "node")
    yield made
    made.state.close()
