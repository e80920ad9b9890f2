"""Files of which a part has come: kept for a while when a link breaks, so that the rest is sent only.

A part belongs to one client, and nobody else gets it or hears of it. What was put together from parts is compared with
its hash by whoever asks for it; here nothing is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from dispy.model import RESUMABLE_BYTES, ClientId
from dispy.wire.owner import Owner
from dispy_node.engine.records import PartKey, Spooled

KEPT_S = 600.0
"""Seconds for which a part waits for its client: long enough for a router to start again."""

PARTS_MAX = 256
"""Most parts that are kept for all clients together; a link has at most 64 that have not come whole."""


@dataclass(frozen=True, slots=True)
class _Part:
    spooled: Spooled
    expires_at: float


class Parts:
    """The parts that a node keeps. They lie in its spool folder, which is emptied when it starts and ends.

    Args:
        remove: removes a spool file.
        clock: gives the time in seconds.
        least_bytes: parts of smaller files are not worth it.
    """

    def __init__(
        self,
        remove: Callable[[Spooled], None],
        clock: Callable[[], float],
        *,
        least_bytes: int = RESUMABLE_BYTES,
    ) -> None:
        self._remove = remove
        self._clock = clock
        self._least_bytes = least_bytes
        self._parts: dict[PartKey, _Part] = {}

    def keep(self, key: PartKey, spooled: Spooled) -> None:
        """Take a spool file with the first bytes of a file, or all; of two parts of a file the longer one stays."""
        known = self._parts.pop(key, None)
        if known is not None:
            other, spooled = sorted((known.spooled, spooled), key=lambda part: part.size)
            self._remove(other)
        if key.size < self._least_bytes or not 0 < spooled.size <= key.size:
            self._remove(spooled)
            return
        self._parts[key] = _Part(spooled, self._clock() + KEPT_S)
        if len(self._parts) > PARTS_MAX:
            self._drop_oldest()

    def take(self, key: PartKey) -> Spooled | None:
        """Hand over a part, if there is one."""
        part = self._parts.pop(key, None)
        return None if part is None else part.spooled

    def expire(self) -> None:
        """Remove what has waited too long."""
        now = self._clock()
        self._drop([key for key, part in self._parts.items() if part.expires_at <= now])

    def forget(self, client: ClientId, owner: Owner) -> None:
        """Remove what a client has here, which will not come back."""
        self._drop([key for key in self._parts if (key.client, key.owner) == (client, owner)])

    def make_room(self) -> bool:
        """Remove all parts, as the disk is full; return False if there were none."""
        had_some = bool(self._parts)
        self._drop(list(self._parts))
        return had_some

    def _drop_oldest(self) -> None:
        """Remove the oldest part of the client that has most: who keeps many does not cost others theirs."""
        ((greedy, _),) = Counter(key.client for key in self._parts).most_common(1)
        self._drop([next(key for key in self._parts if key.client == greedy)])

    def _drop(self, keys: list[PartKey]) -> None:
        for key in keys:
            self._remove(self._parts.pop(key).spooled)
