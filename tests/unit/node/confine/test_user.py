from __future__ import annotations

import os
from pathlib import Path

import pytest

from dispy.errors import UsageError
from dispy.interfaces import ExecutorPlan, ExecutorRequest
from dispy_node.confine import user as module
from dispy_node.confine.accounts import Account
from dispy_node.confine.user import UserExecutor
from dispy_testing.contracts import check_executor

OTHER = Account("other", 61234, 61234, (61234,), "/home/other", "/bin/sh")


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """This is root, there is a user "other", and nothing is closed."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(module, "find_account", lambda name: OTHER)
    monkeypatch.setattr(module, "find_closed_folder", lambda account, path: None)


def request(folder: Path, name: str = "other") -> ExecutorRequest:
    inner = ExecutorPlan(["runner"], {"NAME": "value", "HOME": "/home/owner"}, ["program"])
    options = {"user": name} if name else {}
    return ExecutorRequest("compute", folder, "process", folder, folder, inner, options)


def test_contract(tmp_path: Path) -> None:
    check_executor(UserExecutor, [request(tmp_path)], [request(tmp_path, "")])


def test_user_is_in_the_plan_and_in_the_environment(tmp_path: Path) -> None:
    plan = UserExecutor().plan(request(tmp_path))
    assert (plan.user, plan.command, plan.program) == ("other", ["runner"], ["program"])
    assert plan.environment == {
        "NAME": "value",
        "HOME": "/home/other",
        "USER": "other",
        "LOGNAME": "other",
        "SHELL": "/bin/sh",
    }


def test_all_is_well(tmp_path: Path) -> None:
    UserExecutor().check(request(tmp_path))


def test_node_must_be_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="needs a node that root has started, .* 1000's; start it with sudo"):
        UserExecutor().check(request(tmp_path))


def test_user_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="write --confine user=NAME"):
        UserExecutor().check(request(tmp_path, ""))


def test_root_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Account("root", 0, 0, (0,), "/", "/bin/sh")
    monkeypatch.setattr(module, "find_account", lambda name: root)
    with pytest.raises(UsageError, match="confines nothing"):
        UserExecutor().check(request(tmp_path, "root"))


@pytest.mark.parametrize(("which", "remedy"), [("state", "--dest-path-prefix"), ("python", "install Python")])
def test_way_that_is_closed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str, remedy: str
) -> None:
    def find(account: Account, path: Path) -> Path | None:
        return Path("/closed") if (path == tmp_path) is (which == "state") else None

    monkeypatch.setattr(module, "find_closed_folder", find)
    with pytest.raises(UsageError, match=f"because '/closed' is closed.*{remedy}"):
        UserExecutor().check(request(tmp_path))
