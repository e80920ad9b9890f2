"""What runner and children say to each other: records to them, replies and output from them."""

from __future__ import annotations

import os

from dispy_node.runner.bare import READABLE, WRITABLE, signals
from dispy_node.runner.capture import read_some, read_to_end
from dispy_node.runner.family import CHANNEL, PROCESS, Family
from dispy_node.runner.replies import GarbledReplies, cut_replies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dispy_node.runner.offspring import Offspring
    from dispy_node.runner.replies import Reply
    from dispy_node.runner.settings import Settings

READ_BYTES = 64 * 1024


class Talk:
    """Writes to children and reads from them, without ever waiting for one.

    Args:
        settings: what the daemon said.
        family: the children.
        heard: called with a child and all replies of one read; raises GarbledReplies if there is one that
            the child cannot give.
        printed: called with a child whose oldest job has printed something and is watched.

    Attributes:
        turn: number of the present turn of the loop.
    """

    def __init__(
        self,
        settings: Settings,
        family: Family,
        heard: Callable[[Offspring, list[Reply]], None],
        printed: Callable[[Offspring], None],
    ) -> None:
        self._settings = settings
        self._family = family
        self._heard = heard
        self._printed = printed
        self.turn = 0

    # ---- to a child

    def send(self, child: Offspring, data: bytes) -> None:
        """Send records, what does not fit into the channel later; a child that takes none is marked as deaf."""
        if child.unsent:
            child.unsent += data
            return
        try:
            sent = os.write(child.channel, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # It has ended, and nobody has been told yet; `Family.reap` finds it.
            child.deaf = True
            return
        if sent < len(data):
            child.unsent = data[sent:]
            self._family.watch(child, READABLE | WRITABLE)

    def _send_rest(self, child: Offspring) -> None:
        data, child.unsent = child.unsent, b""
        self._family.watch(child, READABLE)
        if data:
            self.send(child, data)

    # ---- from a child

    def handle(self, descriptor: int, mask: int) -> None:
        """Handle what the poll reported about a descriptor of a child."""
        found = self._family.find(descriptor)
        if found is None:
            return
        child, role = found
        if role == CHANNEL:
            if mask & WRITABLE:
                self._send_rest(child)
            if mask & ~WRITABLE:
                self.hear(child)
            return
        if role == PROCESS:
            self._family.forget(descriptor)
            self._family.expect_end(child)
            return
        # Whose output is this? A worker begins no job while one of its pipes holds bytes, and only the runner
        # takes bytes out. This pipe held some when the poll reported it, so since then the worker has been in
        # one and the same job, and all bytes are of that job. All replies of earlier jobs were sent before it
        # began, so after hearing everything that was said until now, that job is the oldest in `jobs`; or its
        # reply was among that, then the pipe has been emptied, the worker may be anywhere by now, and what the
        # poll reported is no longer true. One read only, for the same reason. (A fresh process has one job,
        # and all output is that job's.)
        self.hear(child)
        if self._family.find(descriptor) is None or child.emptied == self.turn:
            return
        if not read_some(child, descriptor, self._settings.output_bytes):
            self._family.forget(descriptor)  # it would be reported for ever
        if child.jobs and child.jobs[0].watches:
            self._printed(child)

    def read_to_end(self, child: Offspring) -> None:
        """Read what a child's oldest job has left in the pipes."""
        child.emptied = self.turn
        read_to_end(child, self._settings.output_bytes)

    def hear(self, child: Offspring) -> None:
        """Read all that a child has said."""
        while child.channel >= 0:
            try:
                data = os.read(child.channel, READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                # It has ended with records unread.
                data = b""
            if not data:
                self._family.forget(child.channel)
                self._family.expect_end(child)
                return
            self._take(child, child.rest + data if child.rest else data)
            if len(data) < READ_BYTES:
                return

    def _take(self, child: Offspring, data: bytes) -> None:
        if child.garbled:
            return
        try:
            replies, child.rest, garbage = cut_replies(data, self._settings.inline_bytes)
            self._heard(child, replies)
            if garbage and child.channel >= 0:  # a fresh process that has answered may say what it likes
                raise GarbledReplies(garbage)
        except GarbledReplies as error:
            place = self._settings.place
            child.garbled = (
                f"the job, or one before it in its process on {place}, "
                f"wrote to a descriptor that is not its own: {error}"
            )
            child.rest = b""
            self._family.forget(child.channel)
            self._family.signal(child, signals.SIGKILL)
            self._family.expect_end(child)
