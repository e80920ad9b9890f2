"""All jobs of a computation together get no more than so much memory and so many processes: control groups v2.

Each runner has a group of its own below the node's, which must have been delegated to the node (systemd:
``Delegate=yes``). As the kernel wants no processes in a group whose children have limits, the node moves itself into
a group beside those of its runners. At the end of a runner its group is killed, with all that is in it.

The files of these groups belong to the node's user. Jobs that run as that user, and see them, can raise their limits,
and move into another group before theirs is killed: only with ``user=`` or ``bubblewrap`` besides do the limits hold.

See cgroups(7) and the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from dispy.errors import UsageError
from dispy.interfaces import API_VERSION, Executor, ExecutorPlan, ExecutorRequest

log = logging.getLogger("dispy.node")

PROCESS = Path("/proc/self")

LEAF = "dispy-node"
"""Name of the group that the node moves itself into."""

AMOUNT = re.compile(r"[1-9][0-9]*[KMGT]?")
COUNT = re.compile(r"[1-9][0-9]*")

KILL_S = 5.0
"""How long the processes of a killed group are waited for; those that hang in the system may never go."""
PAUSE_S = 0.01

DELEGATION = (
    "start the node by: systemd-run --user --scope -p Delegate=yes dispy node ... "
    "(as root without --user), or as a service with Delegate=yes"
)


class CgroupExecutor(Executor):
    """``--confine cgroup:memory=2G,pids=200``."""

    NAME: ClassVar[str] = "cgroup"
    API_VERSION: ClassVar[int] = API_VERSION
    WRAPS: ClassVar[bool] = True
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"memory", "pids"})

    def __init__(self) -> None:
        self._base: Path | None = None
        """The group below which those of runners are; found once, as the node moves itself out of it."""

    def check(self, request: ExecutorRequest) -> None:
        """See that groups can be made and limits be set, and arrange for it.

        Raises:
            UsageError: a limit makes no sense, there are no control groups v2, or the node may not change its own.
        """
        _check_values(request.options)
        base = self._find_base()
        if not (base / "cgroup.procs").exists() or not os.access(base, os.W_OK):
            raise UsageError(f"the node may not change its control group {str(base)!r}; {DELEGATION}")
        _remove_leftovers(base)
        wanted = sorted(request.options)
        there = (base / "cgroup.controllers").read_text().split()
        for controller in wanted:
            if controller not in there:
                raise UsageError(_explain_missing(base, controller))
        if set(wanted) - set((base / "cgroup.subtree_control").read_text().split()):
            _hand_down(base, wanted)

    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        """Make a group with the limits, and have the runner enter it.

        Raises:
            UsageError: the group cannot be made, or has no such limit.
        """
        assert request.inner is not None
        group = self._group_of(request)
        limits = {}
        if memory := request.options.get("memory"):
            limits = {"memory.max": memory, "memory.swap.max": "0"}
        if pids := request.options.get("pids"):
            limits["pids.max"] = pids
        try:
            group.mkdir(exist_ok=True)
            for name, value in limits.items():
                if name != "memory.swap.max" or (group / name).exists():  # not on a system without swap
                    (group / name).write_text(value)
        except OSError as error:
            raise UsageError(
                f"the control group {str(group)!r} cannot be set up: {error.strerror}; {DELEGATION}"
            ) from error
        return dataclasses.replace(request.inner, cgroup=str(group))

    def finished(self, request: ExecutorRequest) -> None:
        """Kill what is left in the group, and remove it."""
        group = self._group_of(request)
        try:
            (group / "cgroup.kill").write_text("1")
        except (FileNotFoundError, PermissionError):
            pass  # it was never made; or the kernel is older than 5.14, and the mark of its processes must do
        deadline = time.monotonic() + KILL_S
        while not _remove(group):
            if time.monotonic() > deadline:
                log.warning("the control group %s stays: processes in it do not end", group)
                return
            time.sleep(PAUSE_S)

    def _find_base(self) -> Path:
        if self._base is None:
            self._base = find_own_group(PROCESS)
        return self._base

    def _group_of(self, request: ExecutorRequest) -> Path:
        return self._find_base() / f"dispy-{os.getpid()}-{request.spool.name}"


def find_own_group(process: Path) -> Path:
    """Return the folder of the control group (v2) of a process.

    Args:
        process: its folder below /proc.

    Raises:
        UsageError: there are no such groups here, or the own one is not to be seen.
    """
    mounts = [
        line.split() for line in _read(process / "mountinfo").splitlines() if " - cgroup2 " in line
    ]  # see proc(5): number, parent, device, root, mount point, ...
    own = [line[3:] for line in _read(process / "cgroup").splitlines() if line.startswith("0::")]
    if not mounts or not own:
        raise UsageError(
            "there are no control groups v2 here, which --confine cgroup needs: mount them with "
            "mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1"
        )
    root, place = mounts[0][3], mounts[0][4]
    try:
        return Path(_unescape(place)) / Path(own[0]).relative_to(_unescape(root))
    except ValueError as error:
        raise UsageError(
            f"the control group of the node, {own[0]}, is not below {root}, which is all that can be seen "
            "here; start the container with a cgroup name space of its own"
        ) from error


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # no /proc, or not Linux
        return ""


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _check_values(options: Mapping[str, str]) -> None:
    memory, pids = options.get("memory"), options.get("pids")
    if memory is not None and not AMOUNT.fullmatch(memory):
        raise UsageError(f"--confine cgroup:memory={memory} is no amount of memory; write 500M or 2G")
    if pids is not None and not COUNT.fullmatch(pids):
        raise UsageError(f"--confine cgroup:pids={pids} is no number of processes; write 200")


def _explain_missing(base: Path, controller: str) -> str:
    for line in _read(PROCESS / "mountinfo").splitlines():
        if " - cgroup " in line and controller in line.rsplit(" ", 1)[1].split(","):
            return (
                f"limits of {controller} are left to control groups v1 on this machine; boot with "
                "systemd.unified_cgroup_hierarchy=1, or leave this limit out"
            )
    return f"the control group {str(base)!r} of the node cannot limit {controller}; {DELEGATION}"


def _remove_leftovers(base: Path) -> None:
    """Remove groups of a node that was killed; one in which there are processes stays."""
    for group in base.glob("dispy-*-*"):
        process = group.name.split("-")[1]
        if process.isdigit() and not (Path("/proc") / process).exists():
            _remove(group)


def _hand_down(base: Path, controllers: list[str]) -> None:
    """Let the children of *base* have limits."""
    try:
        if (base / "cgroup.type").exists():  # only the root of all groups has none, and may hold processes
            leaf = base / LEAF
            leaf.mkdir(exist_ok=True)
            (leaf / "cgroup.procs").write_text(str(os.getpid()))
        (base / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
    except OSError as error:
        raise UsageError(
            f"the control group {str(base)!r} is not the node's alone ({error.strerror}); {DELEGATION}"
        ) from error


def _remove(group: Path) -> bool:
    """Remove a group with those below it, if no process is in it."""
    try:
        for folder, _names, _files in os.walk(group, topdown=False):
            os.rmdir(folder)
    except OSError:
        return False
    return True
