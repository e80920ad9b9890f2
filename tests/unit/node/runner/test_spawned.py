"""The first moments of a child that was not forked; test_spawning.py has its life."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dispy_node.runner.replies import BORN, KEY_BYTES, cut_replies
from dispy_node.runner.spawned import COMMAND


def start(
    folder: Path, given: dict[str, object] | None, *, parent: int
) -> tuple[list[tuple[int, bytes]], int]:
    """Start a child without jobs; give what it has told, and how it ended."""
    path = folder / "start"
    if given is not None:
        path.write_bytes(pickle.dumps(given))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        outputs = [os.dup(2), os.dup(2)]
        numbers = [theirs.fileno(), *outputs, -1, parent]
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *map(str, numbers), str(path)],
            pass_fds=[theirs.fileno(), *outputs],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stderr=subprocess.DEVNULL,
        )
        for output in outputs:
            os.close(output)
        theirs.close()
        ours.settimeout(30)
        data = ours.recv(4096)
        ours.shutdown(socket.SHUT_WR)
        return cut_replies(data, 1000)[0], process.wait(30)


def described(folder: Path, code: bytes, **given: object) -> dict[str, object]:
    settings = f'{{"folder": "{folder}", "spool": "{folder}", "node": "there"}}'.encode()
    base = {"settings": settings, "code": code, "memory": b"", "left": {}, "argv": [], "authkey": None}
    return {**base, "path": sys.path, **given}


CODE = b'S{"sources": [{"text": "def compute(): pass", "name": "p"}], "compute": "compute"}'


def test_it_tells_that_it_is_there_and_ends_with_its_channel(tmp_path: Path) -> None:
    # A file of the jobs is not taken for a module of the standard library's, or of the runner's.
    for name in ("struct", "dispy_node", "gc", "functools"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    ((flags, record),), status = start(tmp_path, described(tmp_path, CODE), parent=os.getpid())
    assert (flags, record[KEY_BYTES:], status) == (BORN, b"", 0)


@pytest.mark.parametrize(
    ("code", "memory", "text"),
    [
        (b"X", b"", "unknown kind of code bundle"),
        (CODE.replace(b"def compute(): pass", b"import no_such_module"), b"", "no_such_module"),
        (CODE.replace(b"def compute(): pass", b"raise SystemExit(5)"), b"", "SystemExit: 5"),
        (CODE, b"nonsense", "UnpicklingError"),
    ],
)
def test_it_tells_why_it_cannot_take_jobs(tmp_path: Path, code: bytes, memory: bytes, text: str) -> None:
    ((flags, record),), status = start(tmp_path, described(tmp_path, code, memory=memory), parent=os.getpid())
    assert (flags, status) == (BORN, 1)
    assert text in record[KEY_BYTES:].decode()
    assert "there" in record[KEY_BYTES:].decode()


def test_without_what_it_needs_it_ends(tmp_path: Path) -> None:
    assert start(tmp_path, None, parent=os.getpid()) == ([], 1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can end a process with its parent")
def test_it_does_not_outlive_the_runner_that_ended_meanwhile(tmp_path: Path) -> None:
    told, status = start(tmp_path, described(tmp_path, CODE), parent=1)
    assert (told, status) in [([], 1), ([], -signal.SIGKILL)]
