"""A node that attacks are made on, and the figures that they give."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attackers import Authority, greets, own_credential
from real_nodes import NodeProcess

from dispy.model import AccessRole

FIGURES = pytest.StashKey[list[str]]()


class Victim(NodeProcess):
    """A node that must survive whatever is done to it."""

    def check(self) -> None:
        """See that it runs, and lets those in who have the key."""
        assert self.process.poll() is None, self.log
        greets(self.port)
        self.read_log()
        assert "a bug in dispy" not in self.log, self.log
        assert "Traceback" not in self.log, self.log

    def read_log(self) -> str:
        """Return the log up to now."""
        mark = len(self.log)
        greets(self.port)
        self.wait_for(rf"(?s).{{{mark}}}.*client friend at \S+ left")
        return self.log


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    """One node for all attacks of a module; each must leave it well."""
    folder = tempfile.mkdtemp(prefix="dispy-victim-")
    node = Victim(Path(folder), "-i", "127.0.0.1")
    own_credential()
    yield node
    node.check()
    node.end()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def authority() -> Authority:
    """The authority of a laboratory."""
    return Authority()


@pytest.fixture(scope="module")
def certified(authority: Authority) -> Iterator[Victim]:
    """A node that asks for certificates of the laboratory; they are in `certified.folder`."""
    folder = Path(tempfile.mkdtemp(prefix="dispy-victim-"))
    (folder / "ca.pem").write_bytes(authority.pem())
    (folder / "node.pem").write_bytes(authority.issue("alpha", AccessRole.NODE).to_pem())
    (folder / "node.pem").chmod(0o600)
    options = ("--certfile", str(folder / "node.pem"), "--cafile", str(folder / "ca.pem"))
    node = Victim(folder / "node", "-i", "127.0.0.1", *options)
    yield node
    assert node.process.poll() is None, node.log
    node.end()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def tell_figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Show a figure at the end of the run."""
    figures = request.config.stash.setdefault(FIGURES, [])
    return figures.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures."""
    figures = terminalreporter.config.stash.get(FIGURES, [])
    if figures:
        terminalreporter.section("figures")
        for line in figures:
            terminalreporter.line(line)
