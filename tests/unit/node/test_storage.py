"""The node's folder."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.errors import CredentialsError, UsageError
from dispy.model import ComputationId
from dispy.places import relative_path
from dispy.wire.owner import SECRET_BYTES
from dispy_node import storage
from dispy_node.confine.accounts import Account
from dispy_node.engine.records import Spooled
from dispy_node.storage import StateFolder, StorageError, explain_os_error

CID = ComputationId("c" * 32)


def test_folder_is_private_and_has_an_identity_that_lasts(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "node")
    assert (tmp_path / "node").stat().st_mode & 0o777 == 0o700
    node, epoch, secret = state.node, state.epoch, state.secret
    assert len(secret) == SECRET_BYTES
    state.close()
    again = StateFolder(tmp_path / "node")
    assert (again.node, again.epoch, again.secret) == (node, epoch + 1, secret)
    again.close()


def test_folder_in_use_is_refused_with_the_process(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    with pytest.raises(StorageError, match=f"process {os.getpid()}"):
        StateFolder(tmp_path)
    state.close()
    StateFolder(tmp_path).close()


def test_leftovers_of_a_crash_are_removed(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    state.open_spool(10).write(b"half")
    (state.make_folder(CID) / "file").write_text("x")
    os.close(state._lock)  # as if killed: nothing is tidied up
    again = StateFolder(tmp_path)
    assert not list(again.spool.iterdir())
    assert not list(again.computations.iterdir())
    again.close()


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", '{"node": "x"}', '{"node": 1, "epoch": "many"}', "\0" * 100),
        *('{"node": "x", "epoch": 1}', '{"node": "x", "epoch": 1, "secret": "00"}'),
        *('{"node": "x", "epoch": 1, "secret": 7}', '{"node": "x", "epoch": 1, "secret": "no hex"}'),
    ],
)
def test_damaged_identity_gives_a_new_node(tmp_path: Path, content: str) -> None:
    (tmp_path / "identity.json").write_text(content)
    state = StateFolder(tmp_path)
    assert (len(state.node), state.epoch) == (32, 1)
    assert json.loads((tmp_path / "identity.json").read_text())["node"] == state.node
    state.close()


def test_link_in_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("x")
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "spool").symlink_to(elsewhere)
    state = StateFolder(tmp_path / "node")
    assert (elsewhere / "precious").exists()
    assert not state.spool.is_symlink()
    state.close()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_folder_that_others_can_write_into_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(StorageError, match=f"chmod 700 {folder}"):
        StateFolder(folder)
    assert not list(folder.iterdir())
    folder.chmod(0o755)
    state = StateFolder(folder)
    assert {path.stat().st_mode & 0o777 for path in (folder, state.spool, state.computations)} == {0o700}
    state.close()


def test_folder_that_others_could_exchange_is_refused_with_the_remedy(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(StorageError, match=rf"run: chmod \+t {shared}; or choose .* --dest-path-prefix"):
        StateFolder(shared / "dispy" / "node")
    assert not list(shared.iterdir())


def test_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(StorageError, match="belongs to user .*--dest-path-prefix"):
        StateFolder(tmp_path)


@pytest.mark.parametrize("name", ["node", "node/lock"])
def test_link_in_place_of_what_is_opened_first_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / name
    link.parent.mkdir(exist_ok=True, mode=0o700)
    link.symlink_to(tmp_path / "elsewhere" / ("lock" if "/" in name else ""))
    with pytest.raises(StorageError, match="--dest-path-prefix"):
        StateFolder(tmp_path / "node")
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("name", ["identity.json", "identity.new"])
def test_identity_goes_through_no_link(tmp_path: Path, name: str) -> None:
    text = json.dumps({"node": "mine", "epoch": 7})
    (tmp_path / "precious").write_text(text)
    folder = tmp_path / "node"
    folder.mkdir(mode=0o700)
    (folder / name).symlink_to(tmp_path / "precious")
    state = StateFolder(folder)
    assert (len(state.node), state.epoch) == (32, 1)
    assert (tmp_path / "precious").read_text() == text
    assert not (folder / "identity.json").is_symlink()
    assert (folder / "identity.json").stat().st_mode & 0o777 == 0o600
    state.close()


def test_full_disk_keeps_a_node_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise CredentialsError("cannot write the file: No space left on device; make room there")

    monkeypatch.setattr("dispy_node.storage.write_private", full)
    with pytest.raises(StorageError, match="make room there"):
        StateFolder(tmp_path)
    monkeypatch.undo()
    StateFolder(tmp_path).close()


def test_unusable_folder_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="dest-path-prefix"):
        StateFolder(tmp_path / "file" / "node")


def test_spool_file_is_written_and_removed(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    writer = state.open_spool(6)
    writer.write(b"abc")
    writer.write(memoryview(b"def"))
    spooled = writer.finish()
    assert (Path(spooled.path).read_bytes(), spooled.size) == (b"abcdef", 6)
    state.remove_spooled(spooled)
    state.remove_spooled(spooled)  # twice does not matter
    assert not list(state.spool.iterdir())
    other = state.open_spool(1)
    other.abandon()
    assert not list(state.spool.iterdir())
    state.close()


def test_files_are_placed_without_dangerous_modes(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    folder = state.make_folder(CID)
    writer = state.open_spool(3)
    writer.write(b"abc")
    state.place_file(folder, "sub/tool", writer.finish(), 0o6777, 1_000_000.0)
    placed = folder / "sub" / "tool"
    assert placed.read_bytes() == b"abc"
    assert placed.stat().st_mode & 0o7777 == 0o755
    assert placed.stat().st_mtime == 1_000_000.0
    state.remove_folder(CID)
    assert not folder.exists()
    state.close()


def test_files_are_placed_through_no_link(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "node")
    folder = state.make_folder(CID)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o750)
    (elsewhere / "precious").write_text("x")
    (elsewhere / "precious").chmod(0o640)
    (folder / "sub").mkdir()
    (folder / "sub" / "way").symlink_to(elsewhere)
    (folder / "sub" / "end").symlink_to(elsewhere / "precious")

    def place(text: str) -> None:
        writer = state.open_spool(3)
        writer.write(b"abc")
        state.place_file(folder, text, writer.finish(), 0o755, 1_000_000.0)

    for text in ("sub/way/precious", "sub/way/new/file"):
        with pytest.raises(UsageError, match="'way' is no folder"):
            place(text)
    place("sub/end")
    assert (folder / "sub" / "end").read_bytes() == b"abc"
    assert not (folder / "sub" / "end").is_symlink()
    status = (elsewhere / "precious").stat()
    assert (status.st_mode & 0o777, (elsewhere / "precious").read_text()) == (0o640, "x")
    assert status.st_mtime != 1_000_000.0
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    with pytest.raises(OSError, match="Not a directory"):
        place("file")
    state.close()


def test_a_file_does_not_take_the_place_of_one_with_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path, path: PurePosixPath) -> None:
        raise UsageError(f"{path} would take the place of another")

    state = StateFolder(tmp_path)
    folder = state.make_folder(CID)
    state.place_file(folder, "data", state.open_spool(0).finish(), 0o644, 1.0)
    monkeypatch.setattr(storage, "check_spelling", refuse)
    with pytest.raises(UsageError, match="data would take"):
        state.place_file(folder, "data", state.open_spool(0).finish(), 0o644, 2.0)
    assert (folder / "data").stat().st_mtime == 1.0
    state.close()


@pytest.mark.parametrize("modified_at", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_time_that_is_none_is_told(tmp_path: Path, modified_at: float) -> None:
    state = StateFolder(tmp_path)
    folder = state.make_folder(CID)
    with pytest.raises(UsageError, match="modification time"):
        state.place_file(folder, "data", state.open_spool(0).finish(), 0o644, modified_at)
    state.close()


def test_folder_gets_out_of_the_way_at_once_and_is_removed_later(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    (state.make_folder(CID) / "old").write_text("x")
    folder = state.make_folder(CID)
    assert not list(folder.iterdir())
    state.remove_folder(CID)
    state.remove_folder(CID)  # twice does not matter
    assert not folder.exists()
    assert len(list(state.computations.iterdir())) == 2
    state.empty_trash()
    assert not list(state.computations.iterdir())
    state.close()


@pytest.fixture
def as_user() -> Iterator[None]:
    """Give up root's right to write everywhere, if this is root."""
    user = os.geteuid()
    yield
    os.seteuid(user)


def test_folder_that_a_job_has_closed_is_removed(tmp_path: Path, as_user: None) -> None:
    state = StateFolder(tmp_path / "node")
    if os.geteuid() == 0:
        for path in (tmp_path / "node", state.computations):
            os.chown(path, 65534, -1)
        for parent in tmp_path.parents[: len(tmp_path.parents) - 1]:
            if not parent.stat().st_mode & 0o001:
                pytest.skip("the folder of the tests is root's own")
        os.seteuid(65534)
    folder = state.make_folder(CID)
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "sub" / "deep" / "file").write_text("x")
    (folder / "link").symlink_to("/")
    for path in (folder / "sub" / "deep", folder / "sub", folder):
        path.chmod(0)
    state.remove_folder(CID)
    state.empty_trash()
    assert not list(state.computations.iterdir())
    os.close(state._lock)


def test_what_cannot_be_removed_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(path: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise OSError(errno.EBUSY, "Device or resource busy")

    state = StateFolder(tmp_path)
    state.make_folder(CID)
    state.remove_folder(CID)
    with monkeypatch.context() as patch:
        patch.setattr("dispy_node.storage.shutil.rmtree", fails)
        state.empty_trash()
    assert "cannot be removed: [Errno 16] Device or resource busy" in caplog.text
    state.close()
    assert not state.computations.exists()


@pytest.mark.parametrize("text", ["file", "a/b/c.dat", "name with spaces", "ünï", ".hidden", "a..b", "..."])
def test_plain_relative_paths_pass(text: str) -> None:
    assert str(relative_path(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "./a",
        "a/.",
        "a/",
        "C:/x",
        "a\\b",
        "a\nb",
        "a\0b",
        "a\ud800",
        "x" * 256,
        "a/" * 600 + "b",
    ],
)
def test_other_paths_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="relative path"):
        relative_path(text)


@given(st.text(max_size=40) | st.from_regex(r"([./\\a:]{1,3}/?){1,6}", fullmatch=True))
def test_no_path_leads_out_of_the_folder(text: str) -> None:
    try:
        path = relative_path(text)
    except UsageError:
        return
    assert os.path.normpath(f"/base/{path}").startswith("/base/")


def test_folders_above_are_made_for_passing_only(tmp_path: Path) -> None:
    StateFolder(tmp_path / "a" / "b" / "node").close()
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "a" / "b")]
    assert modes == [0o711 & ~current_umask()] * 2


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_folders_are_handed_over_from_the_inside_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateFolder(tmp_path / "node")
    folder, spool = state.make_folder(CID), state.make_runner_spool()
    (folder / "below").mkdir()
    (folder / "below" / "file").write_text("x")
    (folder / "link").symlink_to("/etc/passwd")
    account = Account("other", 12345, 54321, (54321,), "/", "/bin/sh")
    monkeypatch.setattr(storage, "find_account", lambda name: account)
    given: list[Path] = []

    def chown(path: str, uid: int, gid: int, *, follow_symlinks: bool) -> None:
        assert (uid, gid, follow_symlinks) == (12345, 54321, False)
        given.append(Path(path))

    monkeypatch.setattr(os, "chown", chown)
    state.hand_over("", folder)
    assert not given
    assert state.path.stat().st_mode & 0o777 == 0o700
    state.hand_over("other", folder, spool)
    assert sorted(given) == sorted(
        [folder, folder / "below", folder / "below" / "file", folder / "link", spool]
    )
    assert given.index(folder) == 3, "as long as the folder is ours, nobody can exchange what is in it"
    for passed in (state.path, state.spool, state.computations):
        assert passed.stat().st_mode & 0o777 == 0o711
    assert folder.stat().st_mode & 0o777 == 0o700
    state.close()
    again = StateFolder(tmp_path / "node")
    again.close()


def test_full_disk_is_told_as_that() -> None:
    assert "disk of the node is full" in explain_os_error(OSError(errno.ENOSPC, "No space left"), "it failed")
    assert (
        explain_os_error(OSError(errno.EACCES, "Permission denied"), "it failed")
        == "it failed: Permission denied"
    )


def test_folder_of_a_runner_is_removed_with_results_that_it_did_not_tell(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    one, other = state.make_runner_spool(), state.make_runner_spool()
    assert one != other
    (one / "1-1.result").write_bytes(b"abc")
    (state.spool / "told").write_bytes(b"abc")
    state.remove_runner_spool(one)
    state.empty_trash()
    assert sorted(state.spool.iterdir()) == sorted([other, state.spool / "told"])
    state.close()


def test_spool_file_that_cannot_be_removed_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = StateFolder(tmp_path)
    folder = state.make_runner_spool()
    state.remove_spooled(Spooled(str(folder), 1))
    assert f"{folder} cannot be removed: " in caplog.text
    writer = state.open_spool(3)
    writer.path.unlink()
    writer.path.mkdir()
    writer.abandon()
    assert f"{writer.path} cannot be removed: " in caplog.text
    state.close()
