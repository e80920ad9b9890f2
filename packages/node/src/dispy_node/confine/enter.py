"""The step from the node to a confined process: into a control group, then to another user, then to the command.

The node runs this file as a script, in an interpreter that does nothing else, because between fork and exec no
Python code is safe in a process that has threads. The script imports nothing of dispy.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never

    from dispy_node.confine.accounts import Account


def entering(command: list[str], account: Account | None, cgroup: str) -> list[str]:
    """Return the command line that starts *command* as a user (None: as now), in a control group (empty: in ours)."""
    if account is None and not cgroup:
        return command
    numbers = ""
    if account is not None:
        numbers = ",".join(map(str, (account.uid, account.gid, *account.groups)))
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), cgroup, numbers, *command]


def enter(cgroup: str, numbers: str, command: list[str]) -> Never:
    """Do it; the arguments are those of `entering`.

    Raises:
        OSError: the control group or the program is not there, or this process is not allowed to.
    """
    if cgroup:
        with open(os.path.join(cgroup, "cgroup.procs"), "w") as file:
            file.write("0")  # this process
    if numbers:
        uid, gid, *groups = map(int, numbers.split(","))
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    os.execvp(command[0], command)


def main() -> Never:
    """Do what the command line says; if that cannot be done, say so and end."""
    cgroup, numbers, *command = sys.argv[1:]
    try:
        enter(cgroup, numbers, command)
    except OSError as error:
        sys.exit(f"{command[0]} cannot be confined: {error}")


if __name__ == "__main__":
    main()
