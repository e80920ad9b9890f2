"""Other users of the machine: modes and owners of what lies on disk, and what they see of our processes."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from watching import forms_of, keep_secret

import dispy
from dispy_auth_secret.keys import key_of_secret

SECRET = keep_secret("another passphrase of the tests")


def square(number: int) -> int:
    return number * number


def test_what_lies_on_disk_is_for_us_alone(
    start_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    monkeypatch.setenv("DISPY_CONFIG_DIR", str(config))
    previous = os.umask(0)
    try:
        node = start_node(folder=tmp_path / "state")
    finally:
        os.umask(previous)
    with dispy.JobCluster(square, nodes=[node.address]) as cluster:
        assert cluster.submit(7)() == 49
        state = Path(re.search(r"its folder is (\S+)", node.log)[1])
        for folder in (
            config,
            state,
            state / "spool",
            state / "computations",
            *(state / "computations").iterdir(),
        ):
            assert (folder.stat().st_uid, stat.S_IMODE(folder.stat().st_mode)) == (os.geteuid(), 0o700), (
                folder
            )
        for file in (config / "key", state / "lock"):
            assert (file.stat().st_uid, stat.S_IMODE(file.stat().st_mode)) == (os.geteuid(), 0o600), file
        assert {path.name for path in config.iterdir()} == {"key"}


ASK = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(sys.argv[1])
    sock.sendall(b'{"do": "status"}\\n')
    print(sock.recv(100))
"""


def test_control_socket_is_for_its_user_alone(start_node: Callable[..., Any], tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can act as another user")
    node = start_node(folder=tmp_path / "state")
    control = Path(re.search(r"its folder is (\S+)", node.log)[1]) / "control"
    assert stat.S_IMODE(control.stat().st_mode) == 0o600

    def ask(user: int) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-c",
            ASK,
            "control",
            str(user),
        ]  # the path as a whole may be too long for a socket
        options: dict[str, Any] = {"cwd": control.parent, "capture_output": True, "text": True}
        return subprocess.run(command, check=False, **options)

    assert "node" in ask(0).stdout
    for wall in (control.parent, control):
        assert "PermissionError" in ask(65534).stderr, wall
        wall.chmod(0o777)
    assert ask(65534).stdout in ("b''\n", ""), "the node itself looks who asks, too"
    node.wait_for("user 65534 may not command this node")


def spoil_by_mode(config: Path) -> None:
    (config / "key").chmod(0o644)


def spoil_by_link(config: Path) -> None:
    (config / "key").rename(config / "real")
    (config / "key").symlink_to(config / "real")


def spoil_folder(config: Path) -> None:
    config.chmod(0o777)


def spoil_owner(config: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(config / "key", 12345, 12345)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_by_mode, "others can read or change the file"),
        (spoil_by_link, "is a link"),
        (spoil_folder, "others can write into the folder"),
        (spoil_owner, "belongs to user 12345"),
    ],
)
def test_key_that_others_can_reach_is_refused(
    start_node: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    spoil: Callable[[Path], None],
    reason: str,
) -> None:
    config = tmp_path / "config"
    monkeypatch.setenv("DISPY_CONFIG_DIR", str(config))
    key = start_node()
    key.end()
    spoil(config)
    with pytest.raises(AssertionError, match=reason):
        start_node()


@pytest.mark.parametrize("kind", ["state", "keys"])
def test_folder_above_that_others_can_write_into_is_refused(
    start_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """Who can write there could put a folder of their own in the place of ours."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "dispy").mkdir(mode=0o700)
    if kind == "keys":
        monkeypatch.setenv("DISPY_CONFIG_DIR", str(shared / "dispy"))
    with pytest.raises(AssertionError, match=rf"others can write into the folder '{shared}'.*chmod \+t"):
        start_node(folder=tmp_path / "own" if kind == "keys" else shared)
    assert not list((shared / "dispy").iterdir())


def test_folder_in_a_shared_one_that_somebody_else_has_prepared_is_refused(
    start_node: Callable[..., Any], tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    shared = tmp_path / "shared"
    (shared / "dispy").mkdir(parents=True)
    shared.chmod(0o1777)
    os.chown(shared / "dispy", 12345, 12345)
    with pytest.raises(AssertionError, match=f"'{shared / 'dispy'}'.* belongs to user 12345"):
        start_node(folder=shared)
    (shared / "dispy").rmdir()
    start_node(folder=shared)


@pytest.mark.parametrize("kind", ["mode", "link", "owner"])
def test_state_folder_that_others_can_reach_is_refused(
    start_node: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    state = tmp_path / "prefix" / "dispy" / "node"
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    state.parent.mkdir(parents=True)
    if kind == "link":
        state.symlink_to(tmp_path / "elsewhere")
    else:
        state.mkdir(mode=0o700)
    if kind == "mode":
        state.chmod(0o777)
    if kind == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder away")
        os.chown(state, 12345, 12345)
    with pytest.raises(AssertionError, match="others can write into|is a link|belongs to user 12345"):
        start_node(folder=tmp_path / "prefix")
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    "form", [["-s", SECRET], [f"-s{SECRET}"], ["--secret", SECRET], [f"--secret={SECRET}"]]
)
def test_secret_on_the_command_line_does_not_stay_there(
    start_node: Callable[..., Any], form: list[str]
) -> None:
    node = start_node("-i", "127.0.0.1", *form)
    key = key_of_secret(SECRET)
    assert f"connections are secured by key {key.fingerprint}" in node.log
    with dispy.JobCluster(square, nodes=[node.address], secret=SECRET) as cluster:
        assert cluster.submit(7)() == 49
        family = [
            psutil.Process(node.process.pid),
            *psutil.Process(node.process.pid).children(recursive=True),
        ]
        assert len(family) > 1, "the runner is there"
        for process in family:
            for name in ("cmdline", "environ"):
                try:
                    seen = Path(f"/proc/{process.pid}/{name}").read_bytes()
                except PermissionError:
                    assert (process.pid, name) == (node.process.pid, "environ"), (
                        "only the node hides, and only that"
                    )
                    continue
                assert not [form for form in (SECRET.encode(), *forms_of(key.data)) if form in seen], (
                    name,
                    seen,
                )
    node.end()
    assert "taken off" in node.log
    assert SECRET not in node.log
    assert key.text not in node.log
