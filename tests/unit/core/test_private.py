"""Private files and folders: closed to others, not reached through links, whole or not there."""

from __future__ import annotations

import os
import pwd
import stat
import threading
from pathlib import Path

import pytest

from dispy import private
from dispy.errors import CredentialsError
from dispy.private import (
    LOCK_NAME,
    config_folder,
    create_private,
    make_private_folder,
    only_one,
    read_private,
    write_private,
)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def put(path: Path, data: bytes = b"secret", mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.fixture
def _as_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user to whom nothing belongs."""
    other = os.geteuid() + 1
    monkeypatch.setattr(private.os, "geteuid", lambda: other)


class TestConfigFolder:
    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("DISPY_CONFIG_DIR", "XDG_CONFIG_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", "/home/ada")

    def test_is_below_the_home_folder(self) -> None:
        assert config_folder() == Path("/home/ada/.config/dispy")

    def test_is_where_the_desktop_keeps_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", "/settings")
        assert config_folder() == Path("/settings/dispy")

    @pytest.mark.parametrize("value", ["", "settings"])
    def test_desktop_setting_that_is_no_full_path_is_none(
        self, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", value)
        assert config_folder() == Path("/home/ada/.config/dispy")

    def test_own_variable_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", "/settings")
        monkeypatch.setenv("DISPY_CONFIG_DIR", "/keys")
        assert config_folder() == Path("/keys")

    def test_own_variable_must_be_a_full_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DISPY_CONFIG_DIR", "keys")
        with pytest.raises(
            CredentialsError, match="^DISPY_CONFIG_DIR='keys' is no full path; start it with /$"
        ):
            config_folder()

    def test_empty_variable_is_as_good_as_unset(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DISPY_CONFIG_DIR", "")
        assert config_folder() == Path("/home/ada/.config/dispy")

    def test_system_knows_the_home_folder_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HOME")
        home = pwd.getpwuid(os.geteuid()).pw_dir
        assert config_folder() == Path(home, ".config/dispy")

    def test_without_a_home_folder_the_remedy_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def nobody(uid: int) -> None:
            raise KeyError(uid)

        monkeypatch.delenv("HOME")
        monkeypatch.setattr(private.pwd, "getpwuid", nobody)
        with pytest.raises(
            CredentialsError, match="has no home folder to keep keys in; set DISPY_CONFIG_DIR to"
        ):
            config_folder()


class TestFolder:
    def test_is_made_private_with_those_above(self, tmp_path: Path) -> None:
        before = mode_of(tmp_path)
        folder = tmp_path / "a" / "b"
        make_private_folder(folder)
        assert (mode_of(folder), mode_of(folder.parent), mode_of(tmp_path)) == (0o700, 0o700, before)
        make_private_folder(folder)

    def test_may_be_read_by_others(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        make_private_folder(tmp_path)
        assert mode_of(tmp_path) == 0o755

    @pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
    def test_may_not_be_written_by_others(self, tmp_path: Path, mode: int) -> None:
        folder = tmp_path / "my keys"
        folder.mkdir()
        folder.chmod(mode)
        with pytest.raises(CredentialsError, match=f"\\(mode {mode:04o}\\); run: chmod 700 '{folder}'$"):
            make_private_folder(folder)

    def test_may_not_lie_where_others_can_exchange_it(self, tmp_path: Path) -> None:
        shared = tmp_path / "shared"
        shared.mkdir()
        shared.chmod(0o777)
        with pytest.raises(CredentialsError, match=rf"; run: chmod \+t {shared}$"):
            make_private_folder(shared / "a" / "keys")
        assert not list(shared.iterdir())
        shared.chmod(0o1777)
        make_private_folder(shared / "a" / "keys")

    def test_what_others_make_above_it_meanwhile_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make = os.mkdir

        def make_for_all(path: Path, mode: int) -> None:
            make(path, mode)
            os.chmod(path, 0o777)
            raise FileExistsError

        monkeypatch.setattr(private.os, "mkdir", make_for_all)
        with pytest.raises(CredentialsError, match=f"others can write into the folder '{tmp_path / 'a'}'"):
            make_private_folder(tmp_path / "a" / "keys")

    def test_may_not_be_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir(mode=0o700)
        (tmp_path / "link").symlink_to(tmp_path / "real")
        with pytest.raises(CredentialsError, match="is a link, .* name the folder that it leads to$"):
            make_private_folder(tmp_path / "link")

    def test_is_not_made_behind_a_link_that_leads_nowhere(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        with pytest.raises(CredentialsError, match="is a link"):
            make_private_folder(tmp_path / "link")
        assert not (tmp_path / "nowhere").exists()

    def test_must_be_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(CredentialsError, match="is no folder; move it away"):
            make_private_folder(put(tmp_path / "file"))

    def test_below_a_file_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(CredentialsError, match="Not a directory; use a folder that you can write into$"):
            make_private_folder(put(tmp_path / "file") / "folder")

    @pytest.mark.usefixtures("_as_another_user")
    def test_must_be_ours(self, tmp_path: Path) -> None:
        with pytest.raises(
            CredentialsError, match=r"belongs to user \d+, but this is user \d+; use a folder of"
        ):
            make_private_folder(tmp_path)

    def test_somebody_else_may_make_it_meanwhile(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make = os.mkdir

        def make_twice(path: Path, mode: int) -> None:
            make(path, mode)
            make(path, mode)

        monkeypatch.setattr(private.os, "mkdir", make_twice)
        make_private_folder(tmp_path / "a" / "b")
        assert mode_of(tmp_path / "a" / "b") == 0o700


class TestReading:
    @pytest.mark.parametrize("mode", [0o600, 0o400])
    def test_gives_what_is_in_a_private_file(self, tmp_path: Path, mode: int) -> None:
        assert read_private(put(tmp_path / "key", mode=mode)) == b"secret"

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666])
    def test_refuses_what_others_may_touch(self, tmp_path: Path, mode: int) -> None:
        path = put(tmp_path / "key", mode=mode)
        with pytest.raises(CredentialsError, match=f"\\(mode {mode:04o}\\).*; run: chmod 600 {path}$"):
            read_private(path)

    def test_refuses_a_link(self, tmp_path: Path) -> None:
        put(tmp_path / "key")
        (tmp_path / "link").symlink_to("key")
        with pytest.raises(CredentialsError, match="is a link, .* name the file that it leads to$"):
            read_private(tmp_path / "link")

    def test_refuses_a_link_that_was_put_there_a_moment_ago(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(tmp_path / "key")
        (tmp_path / "link").symlink_to("key")
        monkeypatch.setattr(private.os.path, "islink", lambda path: False)
        with pytest.raises(CredentialsError, match="symbolic links"):
            read_private(tmp_path / "link")

    def test_does_not_wait_for_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe", 0o600)
        with pytest.raises(CredentialsError, match="is no plain file; name another one$"):
            read_private(tmp_path / "pipe")

    def test_refuses_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(CredentialsError, match="is no plain file"):
            read_private(tmp_path)

    @pytest.mark.usefixtures("_as_another_user")
    def test_refuses_what_belongs_to_others(self, tmp_path: Path) -> None:
        path = put(tmp_path / "key")
        with pytest.raises(CredentialsError, match="belongs to user .* use a file of your own$"):
            read_private(path)

    def test_missing_file_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(
            CredentialsError, match="missing': No such file or directory; name a file that is there"
        ):
            read_private(tmp_path / "missing")

    def test_has_a_limit(self, tmp_path: Path) -> None:
        path = put(tmp_path / "key", b"12345")
        assert read_private(path, max_bytes=5) == b"12345"
        with pytest.raises(CredentialsError, match="is larger than 4 bytes") as caught:
            read_private(path, max_bytes=4)
        assert "1234" not in str(caught.value)


class TestWriting:
    def test_makes_and_replaces(self, tmp_path: Path) -> None:
        path = tmp_path / "key"
        for data in (b"one", b"two"):
            write_private(path, data)
            assert (path.read_bytes(), mode_of(path)) == (data, 0o600)
        assert list(tmp_path.iterdir()) == [path]

    def test_replaces_an_open_file_by_a_private_one(self, tmp_path: Path) -> None:
        path = put(tmp_path / "key", mode=0o666)
        write_private(path, b"new")
        assert read_private(path) == b"new"

    def test_replaces_a_link_and_not_what_it_leads_to(self, tmp_path: Path) -> None:
        target = put(tmp_path / "target", b"old")
        (tmp_path / "link").symlink_to("target")
        write_private(tmp_path / "link", b"new")
        assert (target.read_bytes(), read_private(tmp_path / "link")) == (b"old", b"new")

    def test_trouble_leaves_the_old_file_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def disk_is_full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        path = put(tmp_path / "key", b"old")
        monkeypatch.setattr(private.os, "fsync", disk_is_full)
        with pytest.raises(
            CredentialsError, match="cannot write the file .*No space left on device; make room"
        ):
            write_private(path, b"new")
        assert (list(tmp_path.iterdir()), path.read_bytes()) == ([path], b"old")

    def test_missing_folder_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(
            CredentialsError, match="No such file or directory; make room there, or use another"
        ):
            write_private(tmp_path / "missing" / "key", b"")

    def test_draft_has_a_name_that_cannot_be_guessed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names: list[str] = []
        replace = os.replace

        def note(draft: Path, path: Path) -> None:
            names.append(draft.name)
            assert mode_of(draft) == 0o600
            replace(draft, path)

        monkeypatch.setattr(private.os, "replace", note)
        for _ in range(2):
            write_private(tmp_path / "key", b"")
        assert len(set(names)) == 2
        assert all(name.startswith(".key.") and len(name) == len(".key.") + 16 for name in names)


class TestCreating:
    def test_makes_a_private_file_once(self, tmp_path: Path) -> None:
        path = tmp_path / "key"
        assert create_private(path, b"first")
        assert not create_private(path, b"second")
        assert (path.read_bytes(), mode_of(path)) == (b"first", 0o600)
        assert list(tmp_path.iterdir()) == [path]

    def test_whatever_is_there_stays(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("nowhere")
        assert not create_private(tmp_path / "link", b"data")
        assert not (tmp_path / "nowhere").exists()

    def test_trouble_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_links(source: Path, target: Path, **options: bool) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(private.os, "link", no_links)
        with pytest.raises(
            CredentialsError, match="Operation not permitted; use a folder that you can write into$"
        ):
            create_private(tmp_path / "key", b"data")
        assert list(tmp_path.iterdir()) == []

    def test_of_many_at_once_one_succeeds_and_all_see_its_file(self, tmp_path: Path) -> None:
        path = tmp_path / "key"
        start = threading.Barrier(8)
        seen: list[tuple[bool, bytes, bytes]] = []

        def take_part(number: int) -> None:
            own = b"%d" % number * 5000
            start.wait(10)
            is_first = create_private(path, own)
            seen.append((is_first, own, read_private(path)))

        threads = [threading.Thread(target=take_part, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        (winner,) = [own for is_first, own, _ in seen if is_first]
        assert [found for *_, found in seen] == [winner] * 8


class TestLocking:
    def test_file_is_private_and_stays(self, tmp_path: Path) -> None:
        with only_one(tmp_path):
            assert mode_of(tmp_path / LOCK_NAME) == 0o600
        with only_one(tmp_path):
            assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]

    def test_what_is_raised_inside_unlocks(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError), only_one(tmp_path):
            raise ZeroDivisionError
        with only_one(tmp_path):
            pass

    def test_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / LOCK_NAME).symlink_to("elsewhere")
        with pytest.raises(CredentialsError, match="cannot lock the folder"), only_one(tmp_path):
            pass
        assert not (tmp_path / "elsewhere").exists()

    def test_file_of_others_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / LOCK_NAME).touch()
        (tmp_path / LOCK_NAME).chmod(0o666)
        with pytest.raises(CredentialsError, match="chmod 600"), only_one(tmp_path):
            pass
