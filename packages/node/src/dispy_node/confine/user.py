"""Jobs run as another user, who can read neither the owner's files nor the node's secrets.

Only root may start a process as somebody else. The node, which stays root, gives the folders of a computation and
of its runner to that user, and takes results out of the latter before it looks at them.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from pathlib import Path
from typing import ClassVar

from dispy.errors import UsageError
from dispy.interfaces import API_VERSION, Executor, ExecutorPlan, ExecutorRequest
from dispy_node.confine.accounts import Account, find_account, find_closed_folder


class UserExecutor(Executor):
    """``--confine user=NAME``."""

    NAME: ClassVar[str] = "user"
    API_VERSION: ClassVar[int] = API_VERSION
    WRAPS: ClassVar[bool] = True
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"user"})

    def check(self, request: ExecutorRequest) -> None:
        """Look at who runs the node, who the user is, and whether the user gets to where jobs run.

        Raises:
            UsageError: the node is not root's, the user is unknown or root, or a folder on the way is closed.
        """
        account = _account_of(request)
        if os.geteuid() != 0:
            raise UsageError(
                f"--confine user={account.name} needs a node that root has started, and this one is user "
                f"{os.geteuid()}'s; start it with sudo, or as a system service"
            )
        if account.uid == 0:
            raise UsageError(
                "--confine user=root confines nothing; name a user who has no rights, such as nobody"
            )
        closed = find_closed_folder(account, request.state)
        if closed is not None:
            raise UsageError(
                f"user {account.name!r} cannot get to the node's folder {str(request.state)!r}, because "
                f"{str(closed)!r} is closed; run: chmod o+x {shlex.quote(str(closed))}, or use another folder, "
                "such as: --dest-path-prefix /var/lib/dispy"
            )
        closed = find_closed_folder(account, Path(sys.executable))
        if closed is not None:
            raise UsageError(
                f"user {account.name!r} cannot run this Python, {sys.executable}, because {str(closed)!r} is "
                "closed; install Python and dispy where everybody can read them, such as in /opt/dispy"
            )

    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        """Have the user run it, with the variables that a login would set."""
        assert request.inner is not None
        account = _account_of(request)
        own = {"HOME": account.home, "USER": account.name, "LOGNAME": account.name, "SHELL": account.shell}
        return dataclasses.replace(
            request.inner, user=account.name, environment={**request.inner.environment, **own}
        )


def _account_of(request: ExecutorRequest) -> Account:
    name = request.options.get("user", "")
    if not name:
        raise UsageError("--confine user does not say as whom jobs are to run; write --confine user=NAME")
    return find_account(name)
