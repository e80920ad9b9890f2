"""The node's folder."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.errors import UsageError
from dispy.model import ComputationId
from dispy_node.engine.records import Spooled
from dispy_node.storage import StateFolder, StorageError, explain_os_error, relative_path

CID = ComputationId("c" * 32)


def test_folder_is_private_and_has_an_identity_that_lasts(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "node")
    assert (tmp_path / "node").stat().st_mode & 0o777 == 0o700
    node, epoch = state.node, state.epoch
    state.close()
    again = StateFolder(tmp_path / "node")
    assert (again.node, again.epoch) == (node, epoch + 1)
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
    "content", ["", "{", "[]", '{"node": "x"}', '{"node": 1, "epoch": "many"}', "\0" * 100]
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
    except (UsageError, UnicodeEncodeError):
        return
    assert os.path.normpath(f"/base/{path}").startswith("/base/")


def test_full_disk_is_told_as_that() -> None:
    assert "disk of the node is full" in explain_os_error(OSError(errno.ENOSPC, "No space left"), "it failed")
    assert (
        explain_os_error(OSError(errno.EACCES, "Permission denied"), "it failed")
        == "it failed: Permission denied"
    )


def test_folder_of_a_runner_stays_until_its_last_result_is_fetched(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    one, other = state.make_runner_spool(), state.make_runner_spool()
    assert one != other
    result = one / "1-1.result"
    result.write_bytes(b"abc")
    state.leave_runner_spool(one)
    state.leave_runner_spool(other)
    assert list(state.spool.iterdir()) == [one]
    state.remove_spooled(Spooled(str(result), 3))
    assert list(state.spool.iterdir()) == []
    state.close()
