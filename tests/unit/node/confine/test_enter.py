"""The script that enters a control group and becomes another user; in a process of its own it is run for real."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dispy_node.confine import enter as module
from dispy_node.confine.accounts import Account
from dispy_node.confine.enter import enter, entering

ACCOUNT = Account("other", 61234, 61235, (61235, 61236), "/", "/bin/sh")


def test_nothing_to_enter_leaves_the_command_as_it_is() -> None:
    assert entering(["runner", "-x"], None, "") == ["runner", "-x"]


def test_group_is_entered_before_the_user_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("")
    done: list[tuple[str, object]] = []

    def ended(program: str, command: list[str]) -> None:
        done.append(("execvp", command))
        raise FileNotFoundError(2, "No such file or directory", program)

    for name in ("setgroups", "setresgid", "setresuid"):
        monkeypatch.setattr(os, name, lambda *given, name=name: done.append((name, given)))
    monkeypatch.setattr(os, "execvp", ended)
    with pytest.raises(FileNotFoundError):
        enter(str(tmp_path), "61234,61235,61235,61236", ["runner", "-x"])
    assert (tmp_path / "cgroup.procs").read_text() == "0"
    assert done == [
        ("setgroups", ([61235, 61236],)),
        ("setresgid", (61235, 61235, 61235)),
        ("setresuid", (61234, 61234, 61234)),
        ("execvp", ["runner", "-x"]),
    ]


def test_program_keeps_arguments_descriptors_and_process(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").write_text("")
    reader, writer = os.pipe()
    program = f"import os, sys; os.write({writer}, repr((os.getpid(), sys.argv[1:])).encode())"
    command = entering([sys.executable, "-c", program, "a b", ""], None, str(tmp_path))
    with subprocess.Popen(command, pass_fds=[writer]) as process:
        os.close(writer)
        assert os.read(reader, 1000).decode() == repr((process.pid, ["a b", ""]))
    os.close(reader)
    assert process.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who alone can become another user")
def test_user_and_groups_are_changed_for_good() -> None:
    command = entering(
        ["/bin/sh", "-c", "id -u; id -g; id -G; exec grep ^Uid /proc/self/status"], ACCOUNT, ""
    )
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    lines = done.stdout.split("\n")
    assert lines[:2] == ["61234", "61235"]
    assert set(lines[2].split()) == {"61235", "61236"}
    assert lines[3].split()[1:] == ["61234"] * 4, "no way back"


@pytest.mark.parametrize(
    ("command", "cgroup", "told"),
    [(["/no/such/program"], "", "/no/such/program"), (["/bin/true"], "/no/such/group", "cgroup.procs")],
)
def test_what_cannot_be_done_is_told(command: list[str], cgroup: str, told: str) -> None:
    script = [sys.executable, "-I", "-S", str(module.__file__), cgroup, "", *command]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot be confined" in done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
