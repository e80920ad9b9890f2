"""Resources of a node besides its processors: what its owner says they are, and how jobs are told which they have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dispy.errors import UsageError
from dispy_node.engine.records import Grant

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
ITEM = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
MOST_ITEMS = 1024
"""Items of one resource at a node."""

GPU = "gpu"
DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
"""Variables by which libraries find the GPUs that they may use."""


def parse_resources(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read what ``--resource`` says: ``NAME=COUNT``, or ``NAME=ITEM,ITEM``, with a comma behind a single item.

    Returns:
        name -> its items; those of a count are numbered from 0.

    Raises:
        UsageError: one is neither, or names a resource again.
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, given = text.partition("=")
        if not NAME.fullmatch(name) or name == "cpu":
            raise UsageError(
                f"--resource {text!r} names no resource: write NAME=COUNT, as in gpu=2, or NAME=ITEM,ITEM, as in "
                "gpu=0,3; the number of CPUs is set by --cpus"
            )
        if name in found:
            raise UsageError(
                f"--resource {text!r} names {name!r} again; write all its items behind one NAME="
            )
        found[name] = _parse_items(text, given)
    return found


def _parse_items(text: str, given: str) -> tuple[str, ...]:
    if given.isascii() and given.isdecimal():
        if not 1 <= int(given[:9]) <= MOST_ITEMS or len(given) > 9:
            raise UsageError(f"--resource {text!r} has no count from 1 to {MOST_ITEMS}")
        return tuple(map(str, range(int(given))))
    items = tuple(given.removesuffix(",").split(","))
    if "," not in given or not all(map(ITEM.fullmatch, items)):
        raise UsageError(
            f"--resource {text!r} has neither a count nor items: write gpu=2, or gpu=0,3, or gpu=3, for one item, of "
            "letters, digits and any of _.:/-"
        )
    if len(set(items)) < len(items) or len(items) > MOST_ITEMS:
        raise UsageError(f"--resource {text!r} names an item twice, or more than {MOST_ITEMS}")
    return items


def plain_variables(resources: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Give the variables of jobs that have one CPU, and no items: they see no GPU where GPUs are given to jobs."""
    variables = {"DISPY_CPUS": "1", "DISPY_RESOURCES": ""}
    if GPU in resources:
        variables |= dict.fromkeys(DEVICES, "")
    return variables


def granted_variables(grant: Grant) -> dict[str, str]:
    """Give the variables of a job that has a grant, where they differ from those of others."""
    items = {name: ",".join(held) for name, held in grant.items}
    variables = {"DISPY_CPUS": str(grant.cpus)}
    if items:
        variables["DISPY_RESOURCES"] = ";".join(f"{name}={held}" for name, held in sorted(items.items()))
    if GPU in items:
        variables |= dict.fromkeys(DEVICES, items[GPU])
    return variables
