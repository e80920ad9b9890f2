"""Says in options of the command line what the library says in parameters of `dispy.JobCluster`."""

from __future__ import annotations

import math

IN_OPTIONS = {'nodes=["local"]': "-n local", "nodes=[...]": "-n NODE", "secret=dispy.OPEN": "--open"}

NO_NODE = "no usable node "
"""How the library begins when it says why jobs wait."""


def in_options(text: str) -> str:
    """Return *text* with options in place of parameters."""
    for parameter, option in IN_OPTIONS.items():
        text = text.replace(parameter, option)
    return text


def while_waiting(text: str, node_timeout_s: float) -> str:
    """Reword what the library says while jobs run; why there is no node is told when it is given up, if ever."""
    if text.startswith(NO_NODE) and not math.isinf(node_timeout_s):
        return f"no usable node yet; giving up after {node_timeout_s:g} s in all (see --wait-nodes)"
    return in_options(text)


def why_given_up(explanation: str, node_timeout_s: float) -> str:
    """Say that there was no node in time, from what the cluster explains."""
    head, _, details = explanation.partition("\n")
    said = f"no usable node within {node_timeout_s:g} s"
    return in_options(f"{said}, so no job was run:\n{details}" if details else f"{said}: {head}")
