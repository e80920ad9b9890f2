"""What a job can reach of the daemon that it runs under, and of other runners: nothing that is secret."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from attackers import own_credential
from other_user import USER, open_the_way
from watching import forms_of, keep_secret

import dispy
from dispy_auth_secret.keyfile import load_keys
from dispy_auth_secret.keys import key_of_secret
from dispy_node.confine.accounts import find_account
from dispy_node.confine.enter import entering

SECRET = keep_secret("a passphrase that jobs must not see")


@dataclass
class Bomb:
    """Tells, whenever its pickle is loaded, which process does it."""

    path: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"echo $PPID >> {self.path}",)


def look_around() -> dict[str, Any]:
    """Return what a job sees of itself and of its parents, as far as it is not denied."""
    import os
    from pathlib import Path

    def read(path: str) -> bytes:
        try:
            return Path(path).read_bytes()
        except OSError:
            return b""

    def descriptors(process: object) -> dict[str, str]:
        found = {}
        folder = f"/proc/{process}/fd"
        for name in os.listdir(folder):
            try:
                found[name] = os.readlink(f"{folder}/{name}")
            except OSError:
                continue
        return found

    return {
        "environment": read("/proc/self/environ") + repr(dict(os.environ)).encode(),
        "arguments": read("/proc/self/cmdline"),
        "runner": read(f"/proc/{os.getppid()}/environ") + read(f"/proc/{os.getppid()}/cmdline"),
        "descriptors": descriptors("self"),
        "of runner": descriptors(os.getppid()),
        "unix": read("/proc/net/unix").decode(),
        "pid": os.getpid(),
        "runner pid": os.getppid(),
    }


def knock(pid: int, numbers: list[str]) -> list[str]:
    """Try to open the sockets of another process; return those that opened."""
    opened = []
    for number in numbers:
        try:
            os.close(os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR))
            opened.append(number)
        except OSError:
            continue
    return opened


def pry(pid: int) -> dict[str, str]:
    """Try to get at what a process of the same user holds; tell what came of it."""
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)

    def attempt(function: Callable[[], object]) -> str:
        try:
            function()
        except OSError as error:
            return type(error).__name__
        return "done"

    def read(name: str) -> Callable[[], object]:
        return lambda: open(f"/proc/{pid}/{name}", "rb").read(1)

    def open_memory() -> None:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))

    def trace() -> None:
        seize = 0x4206  # PTRACE_SEIZE, which does not stop it
        if libc.ptrace(seize, pid, 0, 0):
            raise OSError(ctypes.get_errno(), "ptrace")

    return {
        "environ": attempt(read("environ")),
        "auxv": attempt(read("auxv")),
        "mem": attempt(open_memory),
        "fd": attempt(lambda: os.listdir(f"/proc/{pid}/fd")),
        "cwd": attempt(lambda: os.readlink(f"/proc/{pid}/cwd")),
        "trace": attempt(trace),
    }


def pry_above(pid: int) -> list[dict[str, str]]:
    """Do so with a node, and with the runner, from which a node does not differ by its user."""
    import os

    assert os.stat(f"/proc/{os.getppid()}/stat").st_uid == os.geteuid()
    return [pry(pid), pry(os.getppid())]


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a folder of the user as whom the node is to run: of `USER` if we are root."""
    folder = Path(tempfile.mkdtemp(prefix="dispy-other-"))
    if os.geteuid() == 0:
        account = find_account(USER)
        os.chown(folder, account.uid, account.gid)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have no such protection")
def test_job_of_the_same_user_cannot_look_into_its_node(
    place: Path, start_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node is not root's, reads its keys by files that live in memory, and works."""
    prefix = [*open_the_way(), *entering([], find_account(USER), "")] if os.geteuid() == 0 else []
    with monkeypatch.context() as patch:
        patch.setenv("DISPY_SECRET", SECRET)
        patch.setenv("DISPY_CONFIG_DIR", str(place / "keys"))
        patch.setenv("HOME", str(place))
        if prefix:
            patch.delenv("DISPY_TEST_AUDIT")  # its file is ours
        node = start_node("-i", "127.0.0.1", folder=place, prefix=prefix)
    pid = node.process.pid
    assert b"dispy_node" in Path(f"/proc/{pid}/cmdline").read_bytes(), (
        "it has taken the place of what started it"
    )
    of_node, of_runner = ask(node.address, pry_above, pid, depends=[pry], secret=SECRET)
    assert set(of_node.values()) == {"PermissionError"}, of_node
    assert of_runner["environ"] == "done", "what is not protected can be read"
    if os.geteuid() == 0:
        assert SECRET.encode() not in Path(f"/proc/{pid}/environ").read_bytes()


def ask(address: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    with dispy.JobCluster(function, nodes=[address], **options) as cluster:
        job = cluster.submit(*args)
        answer = job()
        assert job.exception is None, job.exception
        return answer


@pytest.mark.parametrize("isolation", ["process", "worker"])
@pytest.mark.parametrize("way", ["key file", "variable", "secret file", "argument"])
def test_job_sees_no_secret(
    start_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Any, way: str, isolation: str
) -> None:
    options: list[str] = []
    with monkeypatch.context() as patch:
        if way == "variable":
            patch.setenv("DISPY_SECRET", SECRET)
        elif way == "secret file":
            (tmp_path / "secret").write_text(SECRET)
            (tmp_path / "secret").chmod(0o600)
            options = ["--secret-file", str(tmp_path / "secret")]
        elif way == "argument":
            options = ["-s", SECRET]
        node = start_node("-i", "127.0.0.1", *options)
    found = ask(node.address, look_around, isolation=isolation, secret=None if way == "key file" else SECRET)
    key = load_keys()[0] if way == "key file" else key_of_secret(SECRET)
    secrets = [*forms_of(key.data), key.text.encode(), SECRET.encode(), own_credential().key]
    seen = b"".join((found["environment"], found["arguments"], found["runner"]))
    assert b"PATH=" in found["environment"]
    assert not [secret for secret in secrets if secret in seen]
    assert b"DISPY_SECRET" not in seen
    assert b"DISPY_CONFIG_DIR" not in seen
    links = [*found["descriptors"].values(), *found["of runner"].values()]
    folders = (os.environ["DISPY_CONFIG_DIR"], str(tmp_path / "secret"))
    assert not [
        link for link in links if link.startswith(folders) or "memfd" in link or link.endswith("/lock")
    ]


@pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root, from whom alone a node does not hide what it has open"
)
def test_job_reaches_no_socket_of_others(node: Any) -> None:
    """Neither the daemon's sockets nor those of another runner are its own, have a name, or can be opened."""
    pid = node.process.pid
    with dispy.JobCluster(look_around, nodes=[node.address]) as cluster:
        first, second = cluster.submit(), cluster.submit()
        one, other = first(), second()
    with dispy.JobCluster(look_around, nodes=[node.address]) as cluster:
        stranger = cluster.submit()()
    daemon = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    for job in (one, other, stranger):
        own = {link for link in job["descriptors"].values() if link.startswith("socket:")}
        assert not own & daemon
        assert not own & set(stranger["of runner"].values()) or job is stranger
        named = [line.split()[7] for line in job["unix"].splitlines()[1:] if len(line.split()) > 7]
        # The one of its owner's commands asks the system who is there; docs/security.md tells what that means for jobs.
        assert not [name for name in named if "dispy" in name and not name.endswith("/control")]
    sockets = [name for name in os.listdir(f"/proc/{pid}/fd") if _is_socket(pid, name)]
    assert sockets
    with dispy.JobCluster(knock, depends=[os], nodes=[node.address]) as cluster:
        assert cluster.submit(pid, sockets)() == []
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(OSError, match="refused|No such"):
        sock.connect("\0dispy")


def _is_socket(pid: int, name: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
    except OSError:
        return False


def test_pickles_of_clients_are_loaded_by_jobs_and_never_by_the_daemon(
    start_node: Callable[..., Any], tmp_path: Path
) -> None:
    node = start_node(folder=tmp_path / "state")

    def prepare(bomb: object) -> int:
        return 0

    def compute(bomb: object, shared: object) -> int:
        return os.getpid()

    there = dispy.NodeAllocate(node.address, setup_args=(Bomb(tmp_path / "setup"),))
    with dispy.JobCluster(compute, nodes=[there], setup=prepare, cleanup=prepare) as cluster:
        shared = cluster.put([Bomb(tmp_path / "shared")])
        pid = cluster.submit(Bomb(tmp_path / "argument"), shared)()
    for name in ("argument", "setup", "shared"):
        loaders = {int(line) for line in (tmp_path / name).read_text().split()}
        assert loaders, name
        assert node.process.pid not in loaders, name
    assert pid != node.process.pid
