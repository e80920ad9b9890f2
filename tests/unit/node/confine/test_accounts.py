from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from dispy.errors import UsageError
from dispy_node.confine.accounts import Account, find_account, find_closed_folder

STRANGER = Account("stranger", 61234, 61234, (61234,), "/", "/bin/sh")


def test_own_account() -> None:
    known = pwd.getpwuid(os.geteuid())
    account = find_account(known.pw_name)
    assert (account.uid, account.gid, account.home) == (known.pw_uid, known.pw_gid, known.pw_dir)
    assert account.gid in account.groups


def test_unknown_user_is_refused_with_the_command_to_type() -> None:
    with pytest.raises(UsageError, match="no user 'nobody-here'; add one with: useradd .* nobody-here"):
        find_account("nobody-here")


def owned_by(account: Account, *, uid: int, gid: int) -> Account:
    return Account(account.name, uid, gid, (gid,), account.home, account.shell)


def test_first_closed_folder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = {"/a": 0o755, "/a/b": 0o711, "/a/b/c": 0o700, "/a/b/c/d": 0o700}
    pretend(monkeypatch, modes)
    assert find_closed_folder(STRANGER, Path("/a/b/c/d/e")) == Path("/a/b/c")
    assert find_closed_folder(STRANGER, Path("/a/b/c")) is None, "the last one itself is no matter"


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "passes"),
    [
        (0o700, 7, 8, True),
        (0o077, 7, 8, False),
        (0o710, 1, 8, True),
        (0o707, 1, 8, False),
        (0o701, 1, 2, True),
        (0o770, 1, 2, False),
    ],
)
def test_who_may_pass(monkeypatch: pytest.MonkeyPatch, mode: int, uid: int, gid: int, passes: bool) -> None:
    """As the kernel has it, the first class that fits counts alone."""
    pretend(monkeypatch, {"/a": mode}, uid=7, gid=8)
    account = owned_by(STRANGER, uid=uid, gid=gid)
    assert (find_closed_folder(account, Path("/a/b")) is None) is passes


def test_folder_that_is_not_there_is_closed() -> None:
    assert find_closed_folder(STRANGER, Path("/no/such/folder")) == Path("/no")


def pretend(monkeypatch: pytest.MonkeyPatch, modes: dict[str, int], *, uid: int = 0, gid: int = 0) -> None:
    """Have folders with these modes, and a root that everybody may pass."""

    def stat(path: Path) -> os.stat_result:
        return os.stat_result((0o40000 | modes.get(str(path), 0o755), 0, 0, 0, uid, gid, 0, 0, 0, 0))

    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(Path, "resolve", lambda path: path)
