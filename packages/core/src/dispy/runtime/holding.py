"""How much memory nodes may fill with bodies: large results and intermediate results, from their first byte on.

They count until nobody refers to them any more: while they arrive, and then until the job has been looked at, or is
gone. The application needs them in memory in the end, so there is nothing to be won by keeping them on disk; what there
is for them is bounded instead, and shared so that no node can take all of it (`dispy.wire.shares`).
"""

from __future__ import annotations

from collections import deque
from typing import Any

from dispy.wire.shares import Shares


class ResultMemory:
    """What all nodes together may fill. `take` and `room` belong to one thread; bodies may go in any.

    Args:
        total_bytes: how much that is.
    """

    def __init__(self, total_bytes: int) -> None:
        self._shares = Shares(total_bytes)
        self._returned: deque[tuple[Account, int]] = deque()
        """What bodies have given back, in whatever thread; a lock would not do, as they may go while one is held."""
        self._accounts: dict[Any, Account] = {}

    @property
    def total_bytes(self) -> int:
        """How much there may be."""
        return self._shares.total

    @property
    def held_bytes(self) -> int:
        """How much there is."""
        self._settle()
        return self._shares.held

    def account(self, owner: Any, *, trusted: bool = False) -> Account:
        """Return the account of a node, under whatever name it is told from others.

        Args:
            trusted: it may fill all that is free.
        """
        account = self._accounts.get(owner)
        if account is None:
            account = self._accounts[owner] = Account(self, trusted=trusted)
        return account

    def room(self, account: Account) -> int:
        """Tell how many more bytes a node may send; negative if it should have fewer here."""
        self._settle()
        shares = self._shares
        return shares.total - shares.held if account.trusted else shares.room(account.held)

    def take(self, account: Account, size_bytes: int) -> bool:
        """Count bytes of a node, if there is room for them."""
        if size_bytes > self.room(account):
            return False
        account.held += size_bytes
        self._shares.held += size_bytes
        return True

    def give_back(self, account: Account, size_bytes: int) -> None:
        """Bytes are not held any more; safe from any thread."""
        self._returned.append((account, size_bytes))

    def _settle(self) -> None:
        returned = self._returned
        while returned:
            account, size = returned.popleft()
            account.held -= size
            self._shares.held -= size


class Account:
    """What one node has filled."""

    __slots__ = ("held", "memory", "trusted")

    def __init__(self, memory: ResultMemory, *, trusted: bool) -> None:
        self.memory = memory
        self.trusted = trusted
        self.held = 0

    def room(self) -> int:
        """Tell how many more bytes the node may send."""
        return self.memory.room(self)


class HeldBody(bytearray):
    """A body that counts as long as it is there.

    Args:
        account: of the node that it comes from.
    """

    def __init__(self, account: Account) -> None:
        super().__init__()
        self._account = account
        self._counted = 0

    def add(self, data: bytes | bytearray | memoryview, *, besides: int = 0) -> bool:
        """Append and count, with what is needed *besides*; return False, with nothing done, if it is too much."""
        size = len(data) + besides
        if not self._account.memory.take(self._account, size):
            return False
        self._counted += size
        self += data
        return True

    def drop(self) -> None:
        """Forget all of it."""
        self.clear()
        counted, self._counted = self._counted, 0
        self._account.memory.give_back(self._account, counted)

    def __del__(self) -> None:
        if self._counted:
            self._account.memory.give_back(self._account, self._counted)
