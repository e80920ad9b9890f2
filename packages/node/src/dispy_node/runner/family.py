"""The children that live: how they are reached, how their ends are noticed, and what is left below them.

A child is in the books from its fork until the kernel has told how it ended, which is also when what it has left
behind is looked for. Its descriptors may be closed long before.
"""

from __future__ import annotations

import os
from time import monotonic

from dispy_node.runner.bare import signals
from dispy_node.runner.escalation import NEVER
from dispy_node.runner.tree import Strangers, kill_rest, signal_group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dispy_node.runner.bare import Poll
    from dispy_node.runner.offspring import Nursery, Offspring

REAP_S = 0.001
"""First pause before looking again for a process that is about to end; each next one is twice as long."""
STRAY_REAPS = 10
"""So many times more is looked for strangers that were killed."""
SWEEP_S = 0.25
"""Last of these pauses, and the time after which the end of a process is noticed that nothing told of: because
somebody below it still holds its channel."""

CHANNEL, STDOUT, STDERR, PROCESS = range(4)
"""What a descriptor is for its child."""


class Family:
    """Knows all children, whatever they do.

    Args:
        nursery: forks children.
        poll: where their descriptors are registered.
        strangers: finds what ended jobs leave behind.
        gone: called with each child that has ended, and its exit status or minus a signal's number.
    """

    def __init__(
        self, nursery: Nursery, poll: Poll, strangers: Strangers, gone: Callable[[Offspring, int], None]
    ) -> None:
        self._nursery = nursery
        self._poll = poll
        self._strangers = strangers
        self._gone = gone
        self._children: dict[int, Offspring] = {}
        self._descriptors: dict[int, tuple[Offspring, int]] = {}
        self._ending_count = 0
        self._stray_reaps = 0
        self._reap_pause_s = REAP_S
        self._reap_at = 0.0

    @property
    def empty(self) -> bool:
        """Tell whether every process has been waited for."""
        return not self._children

    def fork(self, count: int) -> list[Offspring]:
        """Fork *count* children, or fewer; at least one.

        Raises:
            OSError: none can be had.
        """
        born = self._nursery.fork(count, self._descriptors)
        for child in born:
            self._children[child.pid] = child
            self._descriptors[child.channel] = child, CHANNEL
            self._descriptors[child.stdout] = child, STDOUT
            self._descriptors[child.stderr] = child, STDERR
            if child.process >= 0:
                self._descriptors[child.process] = child, PROCESS
        return born

    # ---- descriptors

    def find(self, descriptor: int) -> tuple[Offspring, int] | None:
        """Tell whose descriptor this is, and what for; None if it has been closed."""
        return self._descriptors.get(descriptor)

    def watch(self, child: Offspring, mask: int) -> None:
        """Have the poll report what *mask* says about a child's channel."""
        try:
            self._poll.modify(child.channel, mask)
        except (FileNotFoundError, KeyError):
            # The channel of a program: not registered until now.
            self._poll.register(child.channel, mask)

    def watch_output(self, child: Offspring) -> None:
        """Have the poll report output of a child."""
        self._nursery.watch_output(child)

    def forget(self, descriptor: int) -> None:
        """Have the poll report a descriptor no longer."""
        try:
            self._poll.unregister(descriptor)
        except (FileNotFoundError, KeyError):
            # A channel of a program, or what was forgotten when its other end was closed.
            return

    def close(self, child: Offspring) -> None:
        """Close everything that connects a child with the runner."""
        # Unregistered explicitly, because closing is not enough: children forked meanwhile still have copies.
        for descriptor in (child.channel, child.process):
            if self._descriptors.pop(descriptor, None) is not None:
                self.forget(descriptor)
                os.close(descriptor)
        for descriptor in (child.stdout, child.stderr):
            if self._descriptors.pop(descriptor, None) is not None:
                if child.watched:
                    self.forget(descriptor)
                os.close(descriptor)
        child.channel = child.stdout = child.stderr = child.process = -1
        child.out = child.err = None
        if child.cells is not None:
            child.cells.close()
            child.cells = None

    # ---- ends

    def dismiss(self, child: Offspring) -> None:
        """Let a child go: at the end of its channel it exits."""
        child.leaving = True
        self.expect_end(child)
        self.close(child)

    def signal(self, child: Offspring, number: int) -> None:
        """Signal a child with its group, or what is left of that."""
        if child.pid in self._children:
            signal_group(child.pid, number)
        elif number == signals.SIGKILL:
            kill_rest(child.pid)

    def signal_tree(self, child: Offspring, number: int) -> None:
        """Signal a child with everything below it, also what has left its group."""
        others = self._strangers.tree(child.pid) if child.pid in self._children else {}
        self.signal(child, number)
        for pid, process in others.items():
            if process.group != child.pid:
                try:
                    os.kill(pid, number)
                except (ProcessLookupError, PermissionError):
                    # It has ended in the meantime, or is a set-uid program.
                    continue

    def note_tree(self, child: Offspring) -> int:
        """Count the processes below a child; what has left its session is known as its own from then on."""
        return max(0, len(self._strangers.tree(child.pid)) - 1)

    def show(self, child: Offspring) -> None:
        """Tell a child that somebody looks at its output; who does not know the signal ignores it."""
        number = getattr(signals, "SIGURG", None)
        if number is not None and child.pid in self._children:
            os.kill(child.pid, number)

    def kill_all(self) -> None:
        """Kill every process, at once."""
        for child in list(self._children.values()):
            signal_group(child.pid, signals.SIGKILL)
            self.expect_end(child)

    def expect_end(self, child: Offspring) -> None:
        """Take note that a child will end any moment, if it has not been waited for yet."""
        if not child.ending and child.pid in self._children:
            child.ending = True
            self._ending_count += 1
            self._reap_pause_s = REAP_S
            self._reap_at = 0.0

    def reap(self) -> None:
        """Take note of ended processes; see that nothing is left below ended jobs.

        Called every turn as long as some are about to end, else now and then: there is no SIGCHLD, because each
        one would interrupt the runner, and children would have to undo what is arranged for it.
        """
        any_ended = False
        while True:
            try:
                # Also takes what code of the computation has started here when it was loaded: subprocess copes.
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            any_ended = True
            child = self._children.pop(pid, None)
            if child is not None:
                if child.ending:
                    self._ending_count -= 1
                self._gone(child, os.waitstatus_to_exitcode(status))
        if any_ended:
            self._reap_pause_s = REAP_S
            if self._strangers.sweep(self._children):
                self._stray_reaps = STRAY_REAPS
        else:
            self._reap_pause_s = min(2 * self._reap_pause_s, SWEEP_S)
            self._stray_reaps = max(0, self._stray_reaps - 1)
        self._reap_at = monotonic() + (
            self._reap_pause_s if self._ending_count or self._stray_reaps else SWEEP_S
        )

    def tick(self, now: float) -> None:
        """Reap if that is due."""
        if self._ending_count or now >= self._reap_at:
            self.reap()

    def due_at(self, *, any_busy: bool) -> float:
        """Tell when `tick` has something to do; `NEVER` if that can wait until something else happens."""
        return self._reap_at if self._ending_count or self._stray_reaps or any_busy else NEVER
