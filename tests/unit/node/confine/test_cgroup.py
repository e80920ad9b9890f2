"""Control groups in a folder that looks like the kernel's; tests/e2e/test_confinement.py uses those of the kernel."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from dispy.errors import UsageError
from dispy.interfaces import ExecutorPlan, ExecutorRequest
from dispy_node.confine import cgroup as module
from dispy_node.confine.cgroup import LEAF, CgroupExecutor, find_own_group
from dispy_testing.contracts import check_executor


class Machine:
    """A process and its control group, in files."""

    def __init__(self, folder: Path) -> None:
        self.process = folder / "process"
        self.base = folder / "cgroup files" / "slice" / "node.scope"
        self.process.mkdir()
        self.base.mkdir(parents=True)
        place = str(folder / "cgroup files").replace(" ", r"\040")
        self.mount(f"35 24 0:30 / {place} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate")
        (self.process / "cgroup").write_text("3:cpu:/elsewhere\n0::/slice/node.scope\n")
        self.group = self.base / f"dispy-{os.getpid()}-runner-1"
        self.offer("cpu memory pids")
        (self.base / "cgroup.type").write_text("domain\n")
        (self.base / "cgroup.subtree_control").write_text("")
        (self.base / "cgroup.procs").write_text("")

    def mount(self, *lines: str) -> None:
        (self.process / "mountinfo").write_text("".join(f"{line}\n" for line in lines))

    def offer(self, controllers: str) -> None:
        (self.base / "cgroup.controllers").write_text(f"{controllers}\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setattr(module, "PROCESS", machine.process)
    return machine


def request(**options: str) -> ExecutorRequest:
    place = Path("/state/spool/runner-1")
    return ExecutorRequest("compute", place, "process", place, place, ExecutorPlan(["runner"]), options)


def test_contract(machine: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    given = ExecutorRequest("compute", folder, "process", folder, folder, ExecutorPlan(["runner"]), {})
    check_executor(CgroupExecutor, [given])


def test_group_with_limits_is_made_for_each_runner(machine: Machine) -> None:
    plan = CgroupExecutor().plan(request(memory="2G", pids="200"))
    group = machine.group
    assert plan == ExecutorPlan(["runner"], cgroup=str(group))
    assert {path.name: path.read_text() for path in group.iterdir()} == {
        "memory.max": "2G",
        "pids.max": "200",
    }


def test_there_is_no_swap_beside_the_memory(machine: Machine) -> None:
    group = machine.group
    group.mkdir()
    (group / "memory.swap.max").write_text("max")
    CgroupExecutor().plan(request(memory="2G"))
    assert (group / "memory.swap.max").read_text() == "0"


def test_without_limits_there_is_only_a_group(machine: Machine) -> None:
    executor = CgroupExecutor()
    executor.check(request())
    executor.plan(request())
    assert not list((machine.group).iterdir())
    assert not (machine.base / LEAF).exists()


def test_node_makes_room_before_it_hands_controllers_down(machine: Machine) -> None:
    (machine.base / LEAF).mkdir()
    executor = CgroupExecutor()
    executor.check(request(memory="2G", pids="200"))
    assert (machine.base / LEAF / "cgroup.procs").read_text() == str(os.getpid())
    assert (machine.base / "cgroup.subtree_control").read_text() == "+memory +pids"
    # It has moved, but groups of runners are made where it was.
    (machine.process / "cgroup").write_text(f"0::/slice/node.scope/{LEAF}\n")
    assert executor.plan(request()).cgroup == str(machine.group)


def test_root_of_all_groups_may_hold_processes(machine: Machine) -> None:
    (machine.base / "cgroup.type").unlink()
    CgroupExecutor().check(request(pids="200"))
    assert (machine.base / "cgroup.subtree_control").read_text() == "+pids"
    assert not (machine.base / LEAF).exists()


def test_what_is_handed_down_already_is_left_alone(machine: Machine) -> None:
    (machine.base / "cgroup.subtree_control").write_text("cpu pids\n")
    CgroupExecutor().check(request(pids="200"))
    assert (machine.base / "cgroup.subtree_control").read_text() == "cpu pids\n"


@pytest.mark.parametrize(
    "options", [{"memory": "much"}, {"memory": "0"}, {"memory": "2GB"}, {"memory": ""}, {"pids": "-1"}]
)
def test_limits_that_make_no_sense_are_refused(machine: Machine, options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="; write "):
        CgroupExecutor().check(request(**options))


def test_system_without_control_groups_is_refused(machine: Machine) -> None:
    machine.mount("24 1 0:5 / / rw - ext4 /dev/vda rw")
    with pytest.raises(UsageError, match="no control groups v2 here"):
        CgroupExecutor().check(request())
    (machine.process / "mountinfo").unlink()
    with pytest.raises(UsageError, match="no control groups v2 here"):
        CgroupExecutor().check(request())


def test_group_outside_what_is_mounted_is_refused(machine: Machine, tmp_path: Path) -> None:
    machine.mount(f"35 24 0:30 /docker {tmp_path} rw - cgroup2 cgroup2 rw")
    with pytest.raises(UsageError, match="not below /docker"):
        CgroupExecutor().check(request())


def test_mount_of_a_part_is_understood(machine: Machine, tmp_path: Path) -> None:
    machine.mount(f"35 24 0:30 /slice {tmp_path} rw - cgroup2 cgroup2 rw")
    assert find_own_group(machine.process) == tmp_path / "node.scope"


def test_group_that_is_not_delegated_is_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match=r"may not change its control group .*Delegate=yes"):
        CgroupExecutor().check(request())


def test_controller_that_is_not_handed_down_to_the_node_is_refused(machine: Machine) -> None:
    machine.offer("cpu")
    with pytest.raises(UsageError, match=r"cannot limit memory; .*Delegate=yes"):
        CgroupExecutor().check(request(memory="1G"))


def test_controller_of_the_old_kind_is_refused_with_the_way_out(machine: Machine) -> None:
    machine.offer("cpu")
    known = (machine.process / "mountinfo").read_text().strip()
    machine.mount(known, "36 24 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory")
    with pytest.raises(UsageError, match="groups v1.*unified_cgroup_hierarchy=1"):
        CgroupExecutor().check(request(memory="1G"))


def test_group_shared_with_others_is_refused(machine: Machine) -> None:
    control = machine.base / "cgroup.subtree_control"
    control.unlink()
    control.symlink_to("/dev/full")  # reads zeros, and takes nothing
    machine.offer("pids")
    with pytest.raises(UsageError, match="not the node's alone"):
        module._hand_down(machine.base, ["pids"])


def test_group_that_cannot_be_made_is_told(machine: Machine) -> None:
    (machine.group).write_text("in the way")
    with pytest.raises(UsageError, match="cannot be set up: File exists"):
        CgroupExecutor().plan(request())


def test_end_kills_and_removes_the_group(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = CgroupExecutor()
    executor.plan(request())
    group = machine.group
    (group / "made by a job").mkdir()

    def pause(seconds: float) -> None:  # the kernel's files go with their folder
        assert (group / "cgroup.kill").read_text() == "1"
        (group / "cgroup.kill").unlink()

    monkeypatch.setattr(module.time, "sleep", pause)
    executor.finished(request())
    assert not group.exists()


def test_end_of_what_was_never_made(machine: Machine) -> None:
    CgroupExecutor().finished(request())
    assert not (machine.group).exists()


def test_groups_of_a_killed_node_are_removed(machine: Machine) -> None:
    gone, alive, foreign = (
        machine.base / f"dispy-{name}" for name in ("99999999-r", f"{os.getpid()}-r", "node")
    )
    for group in (gone, alive, foreign):
        group.mkdir()
    CgroupExecutor().check(request())
    assert [group.exists() for group in (gone, alive, foreign)] == [False, True, True]


def test_group_that_does_not_empty_is_told_of(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    executor = CgroupExecutor()
    executor.plan(request())
    monkeypatch.setattr(module, "KILL_S", 0.0)
    with caplog.at_level(logging.WARNING, "dispy.node"):
        executor.finished(request())
    assert "-runner-1 stays" in caplog.text
