"""Shares a bounded amount of memory among parties that need not be honest.

Nobody may hold more than what is still free. So one alone gets half of it, two that want all they can get a third
each, and whoever comes later still finds something: no party can shut the others out, and all together never hold more
than there is.
"""

from __future__ import annotations


class Shares:
    """Bytes that are held, by all together.

    Args:
        total: how many there may be.

    Attributes:
        held: how many are held now; changed by whoever keeps the accounts.
    """

    __slots__ = ("held", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = 0

    def room(self, own: int) -> int:
        """Tell how many more bytes a party that holds *own* may take; negative if it should hold fewer."""
        return (self.total - self.held - own) // 2
