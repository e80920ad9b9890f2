"""How many datagrams are sent to one address: as many as a good client needs, and no flood for a forged one."""

from __future__ import annotations

from collections import OrderedDict

SOURCES_MAX = 1024
"""So many addresses are told apart; of more, those that were quiet for longest are forgotten."""


class Buckets:
    """A token bucket for each address, and one for all together.

    Args:
        rate: tokens that come back to an address in a second.
        burst: tokens of an address that was quiet.
        total: the same for all addresses together, both the rate and the burst.
    """

    def __init__(self, *, rate: float, burst: float, total: float) -> None:
        self._rate, self._burst, self._total = rate, burst, total
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Address -> tokens left, and when that was."""
        self._level, self._level_at = total, 0.0

    def take(self, host: str, now: float) -> bool:
        """Take a token for *host*; return False if there is none."""
        level, at = self._levels.pop(host, (self._burst, now))
        level = min(self._burst, level + max(0.0, now - at) * self._rate)
        self._level = min(self._total, self._level + max(0.0, now - self._level_at) * self._total)
        self._level_at = now
        granted = level >= 1 and self._level >= 1
        self._levels[host] = (level - granted, now)
        self._level -= granted
        if len(self._levels) > SOURCES_MAX:
            self._levels.popitem(last=False)
        return granted
