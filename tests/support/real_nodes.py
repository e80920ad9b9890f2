"""Real nodes on loopback, for tests in `tests/e2e` and `tests/security`."""

from __future__ import annotations

import contextlib
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import watching

START_S = 20.0
END_S = 15.0
PATIENCE_S = 60.0
"""Longest wait for anything that should happen at once; machines of CI are slow and busy."""


class NodeProcess:
    """A ``dispy node`` in a process of its own, which *prefix* starts."""

    def __init__(self, folder: Path, *options: str, cpus: int = 2, prefix: Sequence[str] = ()) -> None:
        self.log = ""
        command = [*prefix, sys.executable, "-m", "dispy_node", "-p", "0", "-c", str(cpus)]
        self.process = subprocess.Popen(
            [*command, "--dest-path-prefix", str(folder), *options],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self.port = int(self.wait_for(r"listens on tcp:[^ ]*?:(\d+)")[1])
        except AssertionError:
            self.end()
            raise
        if not prefix:  # else it may be a child of another process
            watching.expect_audit(self.process.pid)

    @property
    def address(self) -> str:
        """What to write into ``nodes=[...]``."""
        return f"127.0.0.1:{self.port}"

    def wait_for(self, pattern: str, timeout_s: float = START_S) -> re.Match[str]:
        """Read the log until *pattern* is in it."""
        assert self.process.stderr is not None
        ends_at = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stderr, selectors.EVENT_READ)
            while not (found := re.search(pattern, self.log)):
                left_s = ends_at - time.monotonic()
                if left_s <= 0 or (selector.select(left_s) and not self._read()):
                    raise AssertionError(f"the node did not log {pattern!r}:\n{self.log}")
        return found

    def _read(self) -> bool:
        assert self.process.stderr is not None
        data = self.process.stderr.read1(65536)  # type: ignore[attr-defined]
        self.log += data.decode()
        return bool(data)

    def end(self) -> None:
        """Drain the node; kill it if it does not end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(END_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            with contextlib.suppress(ValueError):
                self.log += self.process.stderr.read().decode()
                self.process.stderr.close()
        watching.look_into(self.log, f"the log of node {self.process.pid}")


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Start nodes on free ports of loopback; they end with the test."""
    nodes: list[NodeProcess] = []

    def start(
        *options: str, cpus: int = 2, folder: Path | None = None, prefix: Sequence[str] = ()
    ) -> NodeProcess:
        node = NodeProcess(folder or tmp_path / f"node{len(nodes)}", *options, cpus=cpus, prefix=prefix)
        nodes.append(node)
        return node

    yield start
    for node in nodes:
        node.end()


@pytest.fixture
def node(start_node: Callable[..., NodeProcess]) -> NodeProcess:
    """One node with two slots."""
    return start_node()


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Wait until *condition* holds; fail with *what* if it never does."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, f"it never happened that {what}"
        time.sleep(0.02)


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Give `wait_until`."""
    return wait_until
