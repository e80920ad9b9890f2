from __future__ import annotations

import pytest

from dispy.interfaces import ExecutorPlan
from dispy_node.environment import runner_environment

INHERITED = {
    "PATH": "/usr/bin",
    "LD_LIBRARY_PATH": "/opt/lib",
    "DISPY_SECRET": "geheim",
    "DISPY_SECRET_FD": "7",
    "DISPY_CONFIG_DIR": "/etc/dispy",
    "SSH_AUTH_SOCK": "/run/agent",
    "XDG_RUNTIME_DIR": "/run/user/0",
    "SUDO_USER": "owner",
}


def test_nothing_of_dispy_is_inherited_and_everything_else_is() -> None:
    made = runner_environment(INHERITED, ExecutorPlan(["runner"]), {"DISPY_RUNNER_FD": "3"})
    own = {name for name in made if name.startswith("DISPY_")}
    assert own == {"DISPY_RUNNER_FD"}
    assert made.keys() - own == {name for name in INHERITED if not name.startswith("DISPY_")}


def test_another_user_has_nothing_of_the_owners_session() -> None:
    plan = ExecutorPlan(["runner"], {"HOME": "/home/other"}, user="other")
    assert runner_environment(INHERITED, plan, {}) == {
        "PATH": "/usr/bin",
        "LD_LIBRARY_PATH": "/opt/lib",
        "HOME": "/home/other",
    }


@pytest.mark.parametrize("own", [{}, {"NAME": "of the node"}])
def test_which_of_them_wins(own: dict[str, str]) -> None:
    made = runner_environment({"NAME": "inherited"}, ExecutorPlan(["runner"], {"NAME": "of the plan"}), own)
    assert made["NAME"] == own.get("NAME", "of the plan")
