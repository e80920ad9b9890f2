"""What this distribution adds to dispy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispy.hookspecs import hookimpl

if TYPE_CHECKING:
    from dispy.interfaces import Allocator


@hookimpl
def dispy_register_allocator() -> list[type[Allocator]]:
    """Offer ``spread`` and ``pack``."""
    from dispy_allocation.placements import PackAllocator, SpreadAllocator

    return [SpreadAllocator, PackAllocator]
