"""What users say about the turn of jobs, and about what they must have at a node, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dispy.errors import UsageError
from dispy.limits import UNSET, Unset

if TYPE_CHECKING:
    from dispy.wire.messages import JobDemand

MAX_PRIORITY = 2**31 - 1
MAX_RESOURCES = 15
MAX_NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class Demands:
    """What a job asks for besides being run."""

    priority: int = 0
    """Of those that wait the highest goes first."""
    demand: JobDemand | None = None
    """What it must have for itself at its node; None: one CPU."""


LEAST_LOADED = "least-loaded"
"""Name of the placement that needs no allocator."""

PLAIN = Demands()
"""Of jobs that ask for nothing."""


def change_demands(
    demands: Demands,
    *,
    priority: int | Unset = UNSET,
    cpus: int | Unset = UNSET,
    resources: Mapping[str, int] | Unset | None = UNSET,
    exclusive: bool | Unset = UNSET,
) -> Demands:
    """Replace what is given; ``cpu`` among *resources* is the same as *cpus*.

    Raises:
        UsageError: something cannot be right.
    """
    if not isinstance(priority, Unset):
        demands = replace(demands, priority=_priority(priority))
    if not all(isinstance(one, Unset) for one in (cpus, resources, exclusive)):
        demands = replace(demands, demand=_change(demands.demand, cpus, resources, exclusive))
    return demands


def _change(
    demand: JobDemand | None,
    cpus: int | Unset,
    resources: Mapping[str, int] | Unset | None,
    exclusive: bool | Unset,
) -> JobDemand | None:
    from dispy.wire.messages import JobDemand

    old = JobDemand() if demand is None else demand
    count, items, alone = old.cpus, old.resources, old.exclusive
    if not isinstance(resources, Unset):
        given = _resources(resources)
        if "cpu" in given:
            number = given.pop("cpu")
            if not isinstance(cpus, Unset) and cpus != number:
                raise UsageError(f"cpus={cpus!r} and resources={{'cpu': {number}}} differ: give one of them")
            cpus = number
        items = tuple(sorted(given.items()))
    if not isinstance(cpus, Unset):
        count = _amount("cpus", cpus)
    if not isinstance(exclusive, Unset):
        if not isinstance(exclusive, bool):
            raise UsageError(
                f"exclusive={exclusive!r} is neither True nor False: True has a job alone at its node"
            )
        alone = exclusive
    changed = JobDemand(count, alone, items)
    return None if changed == JobDemand() else changed


def _resources(given: Mapping[str, int] | None) -> dict[str, int]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UsageError(f"resources={given!r} is no dict: give names with counts, such as {{'gpu': 1}}")
    for name in given:
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARS:
            raise UsageError(
                f"resources names {name!r}, which is no name of a resource: give one such as 'gpu'"
            )
    if len(given) > MAX_RESOURCES:
        raise UsageError(f"resources names {len(given)} resources: give {MAX_RESOURCES} at most")
    return {name: _amount(f"resources[{name!r}]", count) for name, count in given.items()}


def _amount(name: str, given: object) -> int:
    if isinstance(given, int) and not isinstance(given, bool) and 0 < given <= MAX_PRIORITY:
        return given
    raise UsageError(f"{name}={given!r} is no amount: give a whole number, 1 or more")


def _priority(given: object) -> int:
    if isinstance(given, int) and not isinstance(given, bool) and abs(given) <= MAX_PRIORITY:
        return given
    raise UsageError(
        f"priority={given!r} is no priority: give a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}, "
        "where 0 is that of other jobs and more goes first"
    )
