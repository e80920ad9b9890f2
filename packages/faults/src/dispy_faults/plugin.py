"""What this distribution adds to dispy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispy.hookspecs import hookimpl

if TYPE_CHECKING:
    from dispy.interfaces import FaultPolicy


@hookimpl
def dispy_register_fault_policy() -> type[FaultPolicy]:
    """Offer the policy ``rerun``."""
    from dispy_faults.rerun import RerunPolicy

    return RerunPolicy
