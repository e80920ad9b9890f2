"""Writes the state diagrams of docs/protocol.md, and the tables of roles there and in docs/security.md, from the code.

    python scripts/make_diagrams.py            write the pages
    python scripts/make_diagrams.py --check    only tell, by exit status 1, that one is not up to date

Each page has a section for each table between two comments, `<!-- BEGIN name -->` and `<!-- END name -->`; all that
stands between them is replaced. That of a machine is a diagram, without the steps that change nothing, and the whole
table.
"""

from __future__ import annotations

import argparse
import enum
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dispy.engine import tables as scheduler
from dispy.model import AccessRole, Role
from dispy.wire import rights, session
from dispy.wire.messages import Hello
from dispy_node.engine import tables as node

DOCS = Path(__file__).parents[1] / "docs"

SECTION = re.compile(
    r"(?P<begin><!-- BEGIN (?P<name>[\w-]+) -->\n)(?P<text>.*?)(?P<end><!-- END (?P=name) -->)", re.S
)


@dataclass(frozen=True)
class Machine:
    """A transition table, and where it stands.

    Attributes:
        source: the table's full name, for the reader.
        steps: what can happen, in the order of its columns.
        table: state -> what happens -> next state; what is missing cannot happen.
        starts: states that it can begin in.
    """

    source: str
    steps: type[enum.Enum]
    table: Mapping[Any, Mapping[Any, Any]]
    starts: Collection[enum.Enum]


MACHINES = {
    "session": Machine(
        "dispy.wire.session.TRANSITIONS", session.Input, session.TRANSITIONS, {session.State.GREETING}
    ),
    "job": Machine(
        "dispy.engine.tables.JOB_TABLE", scheduler.JobStep, scheduler.JOB_TABLE, scheduler.JOB_STARTS
    ),
    "node": Machine(
        "dispy.engine.tables.NODE_TABLE", scheduler.NodeStep, scheduler.NODE_TABLE, scheduler.NODE_STARTS
    ),
    "placement": Machine(
        "dispy.engine.tables.PLACEMENT_TABLE",
        scheduler.PlacementStep,
        scheduler.PLACEMENT_TABLE,
        scheduler.PLACEMENT_STARTS,
    ),
    "computation": Machine(
        "dispy_node.engine.tables.COMPUTATION_TABLE",
        node.ComputationStep,
        node.COMPUTATION_TABLE,
        node.COMPUTATION_STARTS,
    ),
    "attempt": Machine(
        "dispy_node.engine.tables.ATTEMPT_TABLE", node.AttemptStep, node.ATTEMPT_TABLE, node.ATTEMPT_STARTS
    ),
}
"""Name of a section -> the machine that it shows."""


def draw(machine: Machine) -> str:
    """Return the mermaid diagram of a machine; steps between the same two states share an arrow."""
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"    [*] --> {state.value}" for state in machine.table if state in machine.starts]
    for state, steps in machine.table.items():
        arrows: dict[str, list[str]] = {}
        for step, after in steps.items():
            if after is not state:
                arrows.setdefault(after.value, []).append(step.value)
        lines += [f"    {state.value} --> {after}: {', '.join(labels)}" for after, labels in arrows.items()]
        if all(after is state for after in steps.values()):
            lines.append(f"    {state.value} --> [*]")
    return "\n".join([*lines, "```"])


def tabulate(machine: Machine) -> str:
    """Return the table of a machine: a row for each step, a column for each state."""
    states = list(machine.table)
    rows = [["", *(f"**{state.value}**" for state in states)], ["---"] * (len(states) + 1)]
    for step in machine.steps:
        after = [machine.table[state].get(step) for state in states]
        rows.append([step.value, *("" if state is None else state.value for state in after)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def describe(machine: Machine) -> str:
    """Return all that stands in the section of a machine."""
    return f"{draw(machine)}\n\nThe whole of `{machine.source}`:\n\n{tabulate(machine)}\n"


def list_rights() -> str:
    """Return the table of what each role may send, without what roles that it includes may send too."""
    everybody = [kind.__name__ for kind, needed in rights.NEEDED.items() if needed is None]
    rows = [["role", "includes", "greets as", "may send"], ["---"] * 4]
    rows.append(["every peer that was accepted", "", "", _quote(everybody)])
    for role in AccessRole:
        greets_as = [one for one in Role if rights.entry_role(one) in rights.expand([role])]
        own = [kind.__name__ for kind, needed in rights.NEEDED.items() if needed is role]
        sends = _quote(own) + (", chunks of streams" if role in rights.STREAMING else "")
        included = [one for one in AccessRole if one in role.included and one is not role]
        rows.append([f"`{role}`", _quote(included), ", ".join(greets_as), sends or "nothing more yet"])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"From `dispy.wire.rights`; what is not there is allowed to nobody:\n\n{table}\n"


MEANINGS: Mapping[AccessRole, str] = {
    AccessRole.OBSERVE: "greet a node, and so learn its name, versions, slots and what it has free",
    AccessRole.SUBMIT: "what `observe` may, and run computations",
    AccessRole.OPERATE: "what `submit` may, and manage nodes and the jobs of others",
    AccessRole.ADMIN: "everything that a client can do",
    AccessRole.NODE: "run jobs for others, and nothing that a client may",
}
"""Role -> what its owner may do, for people."""


def explain_rights() -> str:
    """Return the table of roles for people, and what needs none."""
    rows = [["role", "may", "messages that need it"], ["---"] * 3]
    for role, meaning in MEANINGS.items():
        needed = [f"`Hello` of a {one}" for one in Role if rights.entry_role(one) is role]
        needed += [f"`{kind.__name__}`" for kind, needs in rights.NEEDED.items() if needs is role]
        needed += ["chunks of streams"] if role in rights.STREAMING else []
        rows.append([f"`{role}`", meaning, ", ".join(needed) or "none yet"])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    free = [
        f"`{kind.__name__}`" for kind, needs in rights.NEEDED.items() if needs is None and kind is not Hello
    ]
    return f"{table}\n\nAllowed to all who were accepted: {', '.join(free)}.\n"


def _quote(names: Collection[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


PAGES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "protocol.md": {
        **{name: partial(describe, machine) for name, machine in MACHINES.items()},
        "rights": list_rights,
    },
    "security.md": {"roles": explain_rights},
}
"""Name of a page -> name of a section -> what makes it."""


def rewrite(page: str, name: str = "protocol.md") -> str:
    """Return the text of a page with its sections as they should be.

    Raises:
        ValueError: a section is missing, stands there twice, or is not known.
    """
    sections = PAGES[name]
    names = [found["name"] for found in SECTION.finditer(page)]
    if sorted(names) != sorted(sections):
        raise ValueError(f"the page has the sections {', '.join(names)}; there must be {', '.join(sections)}")
    return SECTION.sub(lambda found: found["begin"] + sections[found["name"]]() + found["end"], page)


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the generated parts of docs.")
    parser.add_argument(
        "--check", action="store_true", help="change nothing, only tell whether something would be"
    )
    options = parser.parse_args()
    status = 0
    for name in PAGES:
        before = (DOCS / name).read_text()
        after = rewrite(before, name)
        if not options.check:
            (DOCS / name).write_text(after)
        elif before != after:
            print(f"{name} is not up to date: run python scripts/make_diagrams.py", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
