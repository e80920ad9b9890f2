from __future__ import annotations

from pathlib import Path

import pytest

from dispy.errors import UsageError
from dispy.interfaces import ExecutorPlan
from dispy_node.environment import PASSED, check_names, runner_environment

DOCUMENT = Path(__file__).parents[3] / "docs" / "command-line.md"

USUAL = {"PATH": "/usr/bin", "LD_LIBRARY_PATH": "/opt/lib", "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}
OTHERS = {
    "SSH_AUTH_SOCK": "/run/agent",
    "XDG_RUNTIME_DIR": "/run/user/0",
    "AWS_SECRET_ACCESS_KEY": "geheim",
    "HTTPS_PROXY": "http://me:geheim@proxy",
    "TMPDIR": "/home/me/tmp",
    "LIBRARY_SETTING": "wanted",
}
OWN = {"DISPY_SECRET": "geheim", "DISPY_SECRET_FD": "7", "DISPY_CONFIG_DIR": "/etc/dispy"}
INHERITED = {**USUAL, **OTHERS, **OWN}

PLAN = ExecutorPlan(["runner"])


def test_nothing_of_dispy_is_inherited_and_everything_else_is() -> None:
    made = runner_environment(INHERITED, PLAN, {"DISPY_RUNNER_FD": "3"})
    assert made == {**USUAL, **OTHERS, "DISPY_RUNNER_FD": "3"}


def test_confined_jobs_get_what_is_on_the_list() -> None:
    made = runner_environment(INHERITED, PLAN, {"DISPY_RUNNER_FD": "3"}, frozenset())
    assert made == {**USUAL, "DISPY_RUNNER_FD": "3"}


def test_confined_jobs_get_what_is_let_through() -> None:
    let_through = frozenset({"LIBRARY_SETTING", "NOT_THERE"})
    made = runner_environment(INHERITED, PLAN, {}, let_through)
    assert made == {**USUAL, "LIBRARY_SETTING": "wanted"}


def test_another_user_has_nothing_of_the_owners_session() -> None:
    plan = ExecutorPlan(["runner"], {"HOME": "/home/other"}, user="other")
    assert runner_environment(INHERITED, plan, {}) == {**USUAL, "HOME": "/home/other"}


@pytest.mark.parametrize("own", [{}, {"NAME": "of the node"}])
def test_which_of_them_wins(own: dict[str, str]) -> None:
    plan = ExecutorPlan(["runner"], {"NAME": "of the plan"})
    for let_through in (None, frozenset({"NAME"})):
        made = runner_environment({"NAME": "inherited"}, plan, own, let_through)
        assert made["NAME"] == own.get("NAME", "of the plan")


def test_list_is_documented() -> None:
    text = DOCUMENT.read_text()
    assert not [name for name in PASSED if f"`{name}`" not in text]


def test_names_that_may_be_let_through() -> None:
    assert check_names(["ONE", "OTHER", "ONE"]) == {"ONE", "OTHER"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "is no name of a variable"),
        ("NAME=value", "write --env NAME, without a value"),
        ("DISPY_SECRET", "jobs never get; leave it out"),
    ],
)
def test_names_that_may_not(name: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        check_names(["GOOD", name])
