"""The end of everything below a job.

A child leads a session and a process group of its own; killing the group ends nearly everything. What has left the
group (a daemon, a program started in a new session, a pipeline of a shell with job control) loses its
parents by that and becomes a child of the runner, which is the subreaper of all below it: a *stranger*, which the
kernel lists among the runner's children. Where there are no subreapers only groups are killed.
"""

from __future__ import annotations

import os
import sys

from dispy_node.runner.bare import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from dispy_node.runner.census import Process
    from dispy_node.runner.offspring import Offspring

MANY = 100_000
"""So many processes below one job are looked at."""
LISTING_BYTES = 4096
"""The kernel makes the list of children at each read; a longer one is asked for when this is full."""


def signal_group(leader: int, number: int) -> None:
    """Signal the group of a child that has not been waited for; a child too young to have one is signalled alone."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        # As long as nobody has waited for it the number cannot belong to anybody else.
        os.kill(leader, number)
    except PermissionError:
        # All that is left of the group are set-uid programs, which we may not signal.
        return


def kill_rest(leader: int) -> None:
    """Kill what is left of the group of a child that has just been waited for.

    While a group has members, its number is given to no new process; and without members the kernel gives it away
    only after going round all other numbers.
    """
    try:
        os.killpg(leader, signals.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # Nobody is left, or only set-uid programs.
        return


class Strangers:
    """Finds and kills strangers whose job has ended.

    A stranger in the session of a child belongs to that child. One that made its own session belongs to one of
    the children that were alive when it was found, or to one that was not any more; it is killed when none of
    them is left. So no process of a living job is ever killed, and none outlives all jobs of its time.
    """

    def __init__(self) -> None:
        self._listing = -1
        self._suspects: dict[int, set[int]] = {}
        self._known: dict[int, dict[int, int]] = {}
        """Child -> processes below it that have left its session, with their start times; see `tree`."""
        self._own_sessions = {os.getsid(0)}
        """Those of processes that were there before the first child: the computation's import or setup started them."""
        if sys.platform == "linux":
            task = f"/proc/self/task/{os.getpid()}/children"
            try:
                self._listing = os.open(task, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                # A kernel without this list, or no /proc: groups only.
                self._listing = -1
            else:
                for pid in self._list():
                    try:
                        self._own_sessions.add(os.getsid(pid))
                    except ProcessLookupError:
                        # It has just ended.
                        continue

    def fileno(self) -> int:
        """Give the descriptor that children have to close, or -1."""
        return self._listing

    def sweep(self, children: Mapping[int, Offspring]) -> int:
        """Kill strangers that belong to no living child; tell how many.

        Args:
            children: process id -> child, each that has not been waited for. Those that have never had a job have
                nothing below them.
        """
        if self._listing < 0:
            return 0
        strangers = [pid for pid in self._list() if pid not in children]
        if not strangers:
            self._suspects.clear()
            # What is below processes that have just been killed becomes a stranger with their end, not later.
            self._known = {leader: own for leader, own in self._known.items() if leader in children}
            return 0
        living = {pid for pid, child in children.items() if child.used and not child.leaving}
        suspects: dict[int, set[int]] = {}
        killed = 0
        for pid in strangers:
            owners = self._owners(pid, living)
            if owners is None:
                continue
            owners &= living
            if owners:
                suspects[pid] = owners
            else:
                killed += _kill_stranger(pid)
        self._suspects = suspects
        return killed

    def families(self) -> dict[int, set[int]]:
        """Find the children of the runner that surely belong to its other children: child -> those strangers."""
        found: dict[int, set[int]] = {}
        if self._listing < 0:
            return found
        for pid in self._list():
            for leader in self._surely(pid):
                if leader != pid:
                    found.setdefault(leader, set()).add(pid)
        return found

    def tree(
        self, leader: int, at_most: int = MANY, families: Mapping[int, set[int]] | None = None
    ) -> dict[int, Process]:
        """Find the processes of a child, itself included; empty where the system does not tell.

        A process that is found here belongs to the child for good, whatever it does to get away.

        Args:
            leader: process id of the child, which has not been waited for.
            at_most: it is enough to find one more than so many.
            families: what `families` has found a moment ago, for those who look at many children.
        """
        if self._listing < 0:
            return {}
        # Not needed by most runners, and each module makes forks dearer.
        from dispy_node.runner.census import find_tree

        if families is None:
            families = self.families()
        found = find_tree([leader, *families.get(leader, ())], at_most)
        own = {pid: process.started for pid, process in found.items() if process.session != leader}
        if own:
            self._known[leader] = own
        else:
            self._known.pop(leader, None)
        return found

    def _surely(self, pid: int) -> set[int]:
        """Give the children that a child of the runner surely is a stranger of: no more than one, as a rule."""
        try:
            leaders = {os.getsid(pid)}
        except ProcessLookupError:
            return set()
        if self._known and (owner := self._owner(pid)):
            leaders.add(owner)
        suspects = self._suspects.get(pid, ())
        return leaders.union(suspects) if len(suspects) == 1 else leaders

    def _owner(self, pid: int) -> int:
        """Tell below which child a process was found that has left its session; 0 if below none."""
        owners = [leader for leader, own in self._known.items() if pid in own]
        if owners:
            from dispy_node.runner.census import read_process

            process = read_process(pid)
            for leader in owners:
                if process is not None and process.started == self._known[leader][pid]:
                    return leader
        return 0

    def _list(self) -> list[int]:
        """List the children of this process."""
        size = LISTING_BYTES
        listing = os.pread(self._listing, size, 0)
        while len(listing) == size:
            size *= 16
            listing = os.pread(self._listing, size, 0)
        return list(map(int, listing.split()))

    def _owners(self, pid: int, living: set[int]) -> set[int] | None:
        """Tell which children a stranger may belong to; None if it is not below any."""
        if self._known and (owner := self._owner(pid)):
            return {owner}
        if pid in self._suspects:
            return self._suspects[pid]
        try:
            session = os.getsid(pid)
        except ProcessLookupError:
            return None
        if session in self._own_sessions:
            # Children have sessions of their own, and there is no way back: this one was started by code that
            # ran in the runner itself, when the computation was loaded or set up.
            return None
        if session in living:
            return {session}
        return set(living) if session == pid else set()


def _kill_stranger(pid: int) -> bool:
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, signals.SIGKILL)
        else:
            os.kill(pid, signals.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # It has ended in the meantime, or is a set-uid program.
        return False
    return True
