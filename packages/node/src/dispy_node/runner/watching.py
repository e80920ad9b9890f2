"""Who looks at the output of a job while it runs, and what is sent for that.

The output of a job is kept here in any case, as far as its result will hold it; a *watch* is a place in one of its
streams from which on it is sent. It is sent as it comes, up to the limit that the onlooker has set and raises as it
uses up what has come. So one that is slow, or away, costs nothing here; what is dropped before it was sent is
reported as missing. The end of the output is not sent: it is in the result.
"""

from __future__ import annotations

from dispy_node.runner.frames import KEY, OUTPUT_HEAD, WATCH_HEAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from dispy_node.runner.jobs import Job
    from dispy_node.runner.offspring import Offspring

    class Host(Protocol):
        """Who is told."""

        def output(self, record: bytes) -> None:
            """Take what a job has printed: the payload of an OUTPUT."""

    class Family(Protocol):
        """Who reaches children."""

        def show(self, child: Offspring) -> None:
            """Tell a child that somebody looks at its output."""


CHUNK_BYTES = 64 * 1024
"""So much is sent at once: what a pipe holds."""
WATCHES = 32
"""Watches of one job; of more, those that came first end."""
STDOUT = 1


class Watch:
    """A place in the output of a job.

    Attributes:
        number: its name.
        descriptor: 1 for what goes to stdout, 2 for stderr.
        at: what comes before this byte was sent.
        limit: nothing is sent from here on.
    """

    __slots__ = ("at", "descriptor", "limit", "number")

    def __init__(self, number: int, descriptor: int) -> None:
        self.number = number
        self.descriptor = descriptor
        self.at = 0
        self.limit = 0


class Watching:
    """Sends output of jobs that are watched.

    Args:
        host: who is told.
        family: who reaches children.
    """

    def __init__(self, host: Host, family: Family) -> None:
        self._host = host
        self._family = family

    def watch(self, job: Job, text: bytes) -> None:
        """Begin, go on with, or end a watch; *text* is the payload of a WATCH behind its key."""
        _, _, number, descriptor, start, limit = WATCH_HEAD.unpack(job.key + text)
        watches = job.watches
        if limit < 0:
            if watches is not None:
                watches.pop(number, None)
            return
        watch = None if watches is None else watches.get(number)
        if watch is None:
            if start < 0:
                return  # it has ended, or is none of this attempt
            watch = Watch(number, descriptor)
            if watches is None:
                watches = job.watches = {}
                if job.child is not None:
                    self._family.show(job.child)
            watches[number] = watch
            if len(watches) > WATCHES:
                del watches[next(iter(watches))]
        if start >= 0:
            watch.at = start
        watch.limit = limit
        child = job.child
        if child is not None and child.jobs and child.jobs[0] is job:
            self._send(child, job, watch)

    def pump(self, child: Offspring) -> None:
        """Send what a child's oldest job has printed."""
        job = child.jobs[0]
        for watch in (job.watches or {}).values():
            self._send(child, job, watch)

    def _send(self, child: Offspring, job: Job, watch: Watch) -> None:
        output = child.out if watch.descriptor == STDOUT else child.err
        if output is None:
            return
        while watch.at < watch.limit:
            missed, data = output.read(watch.at, min(CHUNK_BYTES, watch.limit - watch.at))
            if not data:
                return
            watch.at += missed
            self._host.output(OUTPUT_HEAD.pack(*KEY.unpack(job.key), watch.number, watch.at, missed) + data)
            watch.at += len(data)
