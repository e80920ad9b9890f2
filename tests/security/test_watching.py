"""What watches the whole run does see what it looks for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import watching

from dispy_auth_secret.keys import make_key

PROGRAM = """
import marshal, pickle, socket, sys
import sitecustomize
sitecustomize.install(sys.argv[1])
pickle.loads(pickle.dumps(print))  # nobody can reach it yet
socket.socket().close()
import colorsys, fractions  # modules are imported, from source or not
{statement}
"""


@pytest.mark.parametrize(
    ("statement", "hits"),
    [
        ("pickle.loads(pickle.dumps(print))", {"pickle.find_class"}),
        ("marshal.loads(marshal.dumps(1))", {"marshal.loads"}),
        ("eval('1 + 1')", {"compile", "exec"}),
        ("exec('x = 1')", {"compile", "exec"}),
        ("pickle.loads(pickle.dumps([1]))", set()),
        ("pass", set()),
    ],
)
def test_audit(tmp_path: Path, statement: str, hits: set[str]) -> None:
    path = tmp_path / "lines"
    environment = {**os.environ, "PYTHONPATH": str(watching.AUDIT_FOLDER)}
    program = PROGRAM.format(statement=statement)
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, str(path)], env=environment, check=True)
    lines = [line.split() for line in path.read_text().splitlines()]
    assert [line[0] for line in lines[:2]] == ["active", "armed"]
    assert {line[2] for line in lines[2:]} == hits


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> watching.Watch:
    """One that begins anew, so that what is found here does not count."""
    new = watching.Watch()
    monkeypatch.setattr(watching, "WATCH", new)
    return new


def test_keys_in_logs(watch: watching.Watch) -> None:
    key = make_key()
    watching.learn_key(key.text)
    watching.look_into("nothing here", "a log")
    assert not watch.hits
    for number, text in enumerate((key.text, key.data.hex(), key.text.removeprefix("dispy1-").upper())):
        watching.look_into(f"before {text} after", f"log {number}")
    watching.look_into(b"x" + key.data, "raw")
    assert len(watch.hits) == 4


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
@pytest.mark.parametrize("where", ["arguments", "environment"])
def test_keys_of_processes(watch: watching.Watch, where: str) -> None:
    key = make_key()
    watching.learn_key(key.text)
    # What it says shows that it has its arguments: a process that has just been made has none for a moment.
    words = [
        sys.executable,
        "-c",
        "print(flush=True); input()",
        *([key.text] if where == "arguments" else []),
    ]
    environment = {**os.environ, **({"KEY": key.data.hex()} if where == "environment" else {})}
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        watching._look_at(str(process.pid))
        process.communicate(b"\n")
    assert watch.hits
    assert all(f"the {where} of process {process.pid}" in hit for hit in watch.hits)
