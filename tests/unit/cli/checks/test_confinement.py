"""Whether jobs can be confined here."""

from __future__ import annotations

from pathlib import Path

from dispy_cli.checks.confinement import check_bubblewrap, check_cgroups
from dispy_cli.checks.finding import Level


def program(folder: Path, text: str) -> str:
    path = folder / "bwrap"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_bubblewrap(tmp_path: Path) -> None:
    (found,) = check_bubblewrap(lambda name: None)
    assert (found.level, "no bwrap" in found.text) == (Level.WARN, True)
    (found,) = check_bubblewrap(lambda name: program(tmp_path, "exit 0"))
    assert found.level is Level.OK
    (found,) = check_bubblewrap(lambda name: program(tmp_path, "echo no namespaces >&2; exit 1"))
    assert (found.level, "no namespaces" in found.text) == (Level.WARN, True)
    (found,) = check_bubblewrap(lambda name: program(tmp_path, "exit 3"))
    assert "status 3" in found.text
    (found,) = check_bubblewrap(lambda name: str(tmp_path / "gone"))
    assert found.level is Level.WARN


def test_control_groups(tmp_path: Path) -> None:
    assert "no control groups v2" in check_cgroups(tmp_path)[0].text
    group = tmp_path / "sys/fs/cgroup/mine"
    group.mkdir(parents=True)
    (group.parent / "cgroup.controllers").touch()
    assert "may not make" in check_cgroups(tmp_path)[0].text
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/mine\n")
    assert "may not make" in check_cgroups(tmp_path)[0].text
    (group / "cgroup.procs").touch()
    (found,) = check_cgroups(tmp_path)
    assert (found.level, str(group) in found.text) == (Level.OK, True)
