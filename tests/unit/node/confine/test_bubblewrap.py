"""The command line of the sandbox; tests/e2e/test_confinement.py looks around inside."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispy.errors import UsageError
from dispy.interfaces import ExecutorPlan, ExecutorRequest
from dispy_node.confine.bubblewrap import BubblewrapExecutor
from dispy_testing.contracts import check_executor


class Machine:
    """A home with Python in it, keys, and a node's folder."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.python = self.home / "python"
        self.keys = self.home / "keys"
        self.state = self.home / "state"
        self.folder = self.state / "computations" / "c"
        self.spool = self.state / "spool" / "runner-1"
        for path in (self.python, self.keys, self.folder, self.spool):
            path.mkdir(parents=True)

    def request(self, **options: str) -> ExecutorRequest:
        plan = ExecutorPlan(["python", "-m", "runner"], {"NAME": "value"}, ["program"])
        return ExecutorRequest("compute", self.folder, "process", self.spool, self.state, plan, options)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path.resolve())
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setenv("HOME", str(machine.home))
    monkeypatch.setenv("DISPY_CONFIG_DIR", str(machine.keys))
    monkeypatch.setattr(
        sys, "path", ["/first", str(machine.python), str(machine.home), "/usr/lib", "relative"]
    )
    return machine


def mounts(command: list[str]) -> Iterator[tuple[str, str]]:
    """Give what is done with which place, in order."""
    words = iter(command[: command.index("--")])
    for word in words:
        if word in ("--ro-bind", "--bind"):
            source, place = next(words), next(words)
            assert source in (place, "/dev/null")
            yield (word if source == place else "empty"), place
        elif word in ("--tmpfs", "--proc", "--dev", "--chdir"):
            yield word, next(words)


def last(command: list[str], path: Path) -> str:
    """Tell what is done last with a place or with what it is in."""
    done = [what for what, place in mounts(command) if Path(place) in (path, *path.parents)]
    return [what for what in done if what != "--chdir"][-1]


def test_contract(machine: Machine) -> None:
    check_executor(BubblewrapExecutor, [machine.request(), machine.request(net="yes")])


def test_command_is_run_in_the_sandbox(machine: Machine) -> None:
    plan = BubblewrapExecutor().plan(machine.request())
    assert plan.command[0] == "/usr/bin/bwrap"
    assert plan.command[plan.command.index("--") + 1 :] == ["python", "-m", "runner"]
    assert (plan.environment, plan.program) == ({"NAME": "value"}, ["program"])
    assert {"--unshare-all", "--die-with-parent", "--new-session"} <= set(plan.command)
    assert dict(mounts(plan.command))["--chdir"] == str(machine.folder)
    assert plan.command[plan.command.index("--cap-drop") + 1] == "ALL"


def test_what_is_where(machine: Machine) -> None:
    command = BubblewrapExecutor().plan(machine.request()).command
    assert next(mounts(command)) == ("--ro-bind", "/")
    places = {
        Path("/etc/passwd"): "--ro-bind",
        Path("/tmp"): "--tmpfs",
        Path("/run"): "--tmpfs",
        machine.home / ".ssh": "--tmpfs",
        machine.python / "module.py": "--ro-bind",
        machine.keys / "key": "--tmpfs",
        machine.state / "lock": "--tmpfs",
        machine.spool.parent / "runner-2": "--tmpfs",
        machine.folder.parent / "other": "--tmpfs",
        machine.folder / "data": "--bind",
        machine.spool / "1-1.result": "--bind",
    }
    assert {path: last(command, path) for path in places} == places


def test_keys_within_what_python_needs_stay_hidden(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = machine.python / "keys"
    keys.mkdir()
    monkeypatch.setenv("DISPY_CONFIG_DIR", str(keys))
    command = BubblewrapExecutor().plan(machine.request()).command
    assert last(command, keys / "key") == "--tmpfs"
    assert last(command, machine.python / "module.py") == "--ro-bind"


def test_key_elsewhere_is_empty(machine: Machine, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("secret")
    gone = tmp_path / "gone.pem"
    request = dataclasses.replace(machine.request(), secrets=(key, gone))
    command = BubblewrapExecutor().plan(request).command
    assert last(command, key) == "empty"
    assert str(gone) not in command
    assert request.inner is not None
    request = dataclasses.replace(request, inner=dataclasses.replace(request.inner, user="root"))
    assert str(key) not in BubblewrapExecutor().plan(request).command, "it may lie where that user cannot go"


def test_home_on_the_import_path_stays_hidden(machine: Machine) -> None:
    command = BubblewrapExecutor().plan(machine.request()).command
    assert ("--ro-bind", str(machine.home)) not in list(mounts(command))


def test_links_can_be_followed_inside(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    link = machine.home / "current"
    link.symlink_to(machine.python)
    monkeypatch.setattr(sys, "path", ["/first", str(link)])
    binds = [place for what, place in mounts(BubblewrapExecutor().plan(machine.request()).command)]
    assert {str(link), str(machine.python)} <= set(binds)


def test_root_is_not_hidden_as_somebodys_home(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    command = BubblewrapExecutor().plan(machine.request()).command
    assert ("--tmpfs", "/") not in list(mounts(command))


@pytest.mark.parametrize(("options", "shared"), [({}, False), ({"net": "yes"}, True), ({"net": "no"}, False)])
def test_network(machine: Machine, options: dict[str, str], shared: bool) -> None:
    assert ("--share-net" in BubblewrapExecutor().plan(machine.request(**options)).command) is shared


def test_network_is_yes_or_no(machine: Machine) -> None:
    with pytest.raises(UsageError, match="net=maybe is neither yes nor no"):
        BubblewrapExecutor().check(machine.request(net="maybe"))


def test_missing_program_is_refused_with_the_command_to_type(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    BubblewrapExecutor().check(machine.request())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="apt-get install bubblewrap"):
        BubblewrapExecutor().check(machine.request())


def test_user_without_an_entry_is_no_obstacle(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
    assert BubblewrapExecutor().plan(machine.request()).command
