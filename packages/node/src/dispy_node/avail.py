"""What the machine has free, and how many processors it offers."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from dispy.errors import UsageError
from dispy.model import Avail
from dispy_node.engine.holding import MEMORY_BYTES

LEAST_MEMORY_BYTES = 128 * 1024 * 1024
"""What a node may hold for its clients at least: one of them then has room for what a scheduler sends ahead."""


def measure_avail(folder: Path) -> Avail:
    """Measure what is free: CPU and swap in percent, memory and the disk of *folder* in bytes."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return Avail(
        cpu_percent=100.0 - psutil.cpu_percent(interval=None),
        memory_bytes=memory.available,
        disk_bytes=psutil.disk_usage(str(folder)).free,
        swap_percent=100.0 - swap.percent,
    )


def choose_memory() -> int:
    """Tell how many bytes the node may hold for its clients: an eighth of what the machine has, within bounds."""
    return min(max(psutil.virtual_memory().total // 8, LEAST_MEMORY_BYTES), MEMORY_BYTES)


def count_cpus() -> int:
    """Count the processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def choose_cpus(wanted: int) -> int:
    """Turn the option ``--cpus`` into a number of slots (C3): 0 all, negative all but so many.

    Raises:
        UsageError: more than there are, or none is left.
    """
    there = count_cpus()
    cpus = wanted if wanted > 0 else there + wanted
    if not 1 <= cpus <= there:
        raise UsageError(f"--cpus {wanted} does not fit this machine, which has {there}; use 1 to {there}")
    return cpus
