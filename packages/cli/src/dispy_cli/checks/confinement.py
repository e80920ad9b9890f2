"""Whether a node on this machine could confine jobs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from dispy_cli.checks.finding import Finding, Level

TRIAL_S = 10.0
TRIAL = ("--ro-bind", "/", "/", "--unshare-all", "--die-with-parent", "--", "/bin/sh", "-c", "exit 0")
"""A sandbox in which nothing happens."""


def check_bubblewrap(find: Callable[[str], str | None] = shutil.which) -> list[Finding]:
    """Try out a sandbox."""
    program = find("bwrap")
    if program is None:
        text = "no bwrap here, so --confine bubblewrap cannot be used"
        return [Finding("bubblewrap", Level.WARN, text, "if you want it: apt-get install bubblewrap")]
    try:
        tried = subprocess.run(
            [program, *TRIAL], stdin=subprocess.DEVNULL, capture_output=True, timeout=TRIAL_S, check=False
        )
        problem = tried.stderr.decode(errors="replace").strip() if tried.returncode else ""
        problem = problem or (f"it ended with status {tried.returncode}" if tried.returncode else "")
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        remedy = (
            "if you want --confine bubblewrap: let users make namespaces (sysctl user.max_user_namespaces)"
        )
        return [Finding("bubblewrap", Level.WARN, f"{program} cannot make a sandbox: {problem}", remedy)]
    return [Finding("bubblewrap", Level.OK, f"{program} makes sandboxes")]


def check_cgroups(root: Path = Path("/")) -> list[Finding]:
    """See whether this process may make control groups below its own."""
    system = root / "sys/fs/cgroup"
    if not (system / "cgroup.controllers").exists():
        text = "there are no control groups v2 here, so --confine cgroup cannot be used"
        return [
            Finding(
                "cgroup", Level.WARN, text, "if you want it: boot with systemd.unified_cgroup_hierarchy=1"
            )
        ]
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
        own = next(line.removeprefix("0::/") for line in lines if line.startswith("0::/"))
    except (OSError, StopIteration):
        own = ""
    group = system / own
    if not own or not os.access(group, os.W_OK) or not os.access(group / "cgroup.procs", os.W_OK):
        text = "this user may not make control groups from here, so --confine cgroup cannot be used"
        remedy = "if you want it: systemd-run --user --scope -p Delegate=yes dispy node ... (as root without --user)"
        return [Finding("cgroup", Level.WARN, text, remedy)]
    return [Finding("cgroup", Level.OK, f"control groups can be made below {str(group)!r}")]
