"""Folders above ours: others may neither own them nor write into them, on whatever way one gets there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from dispy import parents
from dispy.errors import CredentialsError
from dispy.parents import check_parents

STRANGER = 54321

Own = Callable[[Path, int], None]


@pytest.fixture
def owned(monkeypatch: pytest.MonkeyPatch) -> Own:
    """Give the means to make it look as if a path belonged to a user; what has none belongs to root."""
    owners: dict[str, int] = {}
    look = os.lstat

    def lstat(path: Path) -> os.stat_result:
        found = list(look(path))
        found[stat.ST_UID] = owners.get(str(path), 0)
        return os.stat_result(found)

    def own(path: Path, user: int) -> None:
        owners[str(path)] = user

    monkeypatch.setattr(parents.os, "lstat", lstat)
    return own


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path.resolve() / "home"
    home.mkdir(mode=0o755)
    return home


def test_folders_of_root_and_our_own_pass(home: Path, owned: Own) -> None:
    check_parents(home / "ours")
    owned(home, os.geteuid())
    check_parents(home / "ours")


@pytest.mark.parametrize("mode", [0o755, 0o700, 0o711, 0o1777, 0o1770, 0o2755])
def test_modes_that_pass(home: Path, owned: Own, mode: int) -> None:
    home.chmod(mode)
    check_parents(home / "ours")


@pytest.mark.parametrize(
    ("mode", "change"), [(0o775, "g-w"), (0o770, "g-w"), (0o2770, "g-w"), (0o757, r"\+t"), (0o777, r"\+t")]
)
@pytest.mark.parametrize("below", ["ours", "a/b/ours"])
def test_modes_that_do_not_pass(home: Path, owned: Own, mode: int, change: str, below: str) -> None:
    home.chmod(mode)
    with pytest.raises(
        CredentialsError,
        match=rf"'{home}' \(mode {mode:04o}\).*'{home / below}'; run: chmod {change} {home}$",
    ):
        check_parents(home / below)


def test_folder_of_somebody_else_does_not_pass(home: Path, owned: Own) -> None:
    owned(home, STRANGER)
    with pytest.raises(
        CredentialsError,
        match=rf"the folder '{home}', through which .* belongs to user {STRANGER}, but .* a folder of your own$",
    ):
        check_parents(home / "ours")


def test_what_somebody_else_has_put_into_a_shared_folder_does_not_pass(home: Path, owned: Own) -> None:
    home.chmod(0o1777)
    (home / "dispy").mkdir()
    owned(home / "dispy", STRANGER)
    with pytest.raises(CredentialsError, match=f"'{home / 'dispy'}'.* belongs to user {STRANGER}"):
        check_parents(home / "dispy" / "node")


def test_folder_itself_is_not_looked_at(home: Path, owned: Own) -> None:
    (home / "ours").mkdir()
    (home / "ours").chmod(0o777)
    owned(home / "ours", STRANGER)
    check_parents(home / "ours")


def test_both_ends_of_a_link_are_looked_at(home: Path, owned: Own) -> None:
    (home / "target" / "inner").mkdir(parents=True)
    (home / "safe").mkdir()
    link = home / "safe" / "link"
    for target in (home / "target" / "inner", Path("../target/inner")):
        link.symlink_to(target)
        (home / "target").chmod(0o755)
        check_parents(link / "ours")
        (home / "target").chmod(0o777)
        with pytest.raises(CredentialsError, match=f"the folder '{home / 'target'}'"):
            check_parents(link / "ours")
        link.unlink()
    (home / "target").chmod(0o755)
    link.symlink_to(home / "target")
    (home / "safe").chmod(0o777)
    with pytest.raises(CredentialsError, match=f"the folder '{home / 'safe'}'"):
        check_parents(link / "ours")


def test_link_of_somebody_else_is_not_followed(home: Path, owned: Own) -> None:
    home.chmod(0o1777)
    (home / "link").symlink_to("/")
    owned(home / "link", STRANGER)
    with pytest.raises(CredentialsError, match=f"the link '{home / 'link'}'.* belongs to user {STRANGER}"):
        check_parents(home / "link" / "ours")


def test_links_that_never_end_are_told(home: Path, owned: Own) -> None:
    (home / "one").symlink_to("two")
    (home / "two").symlink_to("one")
    with pytest.raises(OSError, match="symbolic links"):
        check_parents(home / "one" / "ours")


def test_steps_back_lead_where_the_system_goes(home: Path, owned: Own) -> None:
    """Behind a link, ``..`` is the folder above its target."""
    (home / "open" / "inner").mkdir(parents=True)
    (home / "open").chmod(0o777)
    (home / "link").symlink_to(home / "open" / "inner")
    (home / "plain").mkdir()
    check_parents(home / "plain" / ".." / "ours")
    with pytest.raises(CredentialsError, match=f"the folder '{home / 'open'}'"):
        check_parents(home / "link" / ".." / "ours")


def test_relative_path_is_of_the_working_folder(
    home: Path, owned: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    check_parents(Path("ours"))
    home.chmod(0o777)
    with pytest.raises(CredentialsError, match=f"the folder '{home}'"):
        check_parents(Path("ours"))


def test_missing_folders_are_left_to_whoever_makes_them(home: Path, owned: Own) -> None:
    check_parents(home / "a" / "b" / "ours")
    assert not list(home.iterdir())


def test_root_of_all_is_looked_at(owned: Own) -> None:
    owned(Path("/"), STRANGER)
    with pytest.raises(CredentialsError, match="the folder '/'"):
        check_parents(Path("/ours"))
    with pytest.raises(CredentialsError, match="the folder '/'"):
        check_parents(Path("/"))
