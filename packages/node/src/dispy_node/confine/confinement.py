"""The kinds of confinement that the node's owner has asked for, applied in their order."""

from __future__ import annotations

import dataclasses
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dispy.errors import UsageError
from dispy.interfaces import Executor, ExecutorPlan, ExecutorRequest
from dispy.model import ComputationId
from dispy_node.confine.accounts import find_account
from dispy_node.confine.enter import entering
from dispy_node.environment import check_names, runner_environment

if TYPE_CHECKING:
    from dispy_node.storage import StateFolder

log = logging.getLogger("dispy.node")

HOLDING = frozenset({"user", "bubblewrap"})
"""Kinds that keep jobs from the files of control groups, and from processes outside of theirs."""

CGROUP_ALONE = (
    "--confine cgroup alone bounds mistakes, and nobody who means harm: jobs run as the node's user, who can lift the "
    "limits and leave the group; add --confine user=NAME or --confine bubblewrap"
)

REHEARSAL = ComputationId("rehearsal")
REHEARSAL_S = 60.0
PROGRAM = """
import sys
import dispy_node.runner.main
for folder in sys.argv[1:]:
    open(folder + "/rehearsal", "w").close()
"""
"""What must work in a confined process: the runner can be imported, and both folders be written to."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One kind of confinement, with what was set for it."""

    executor: Executor
    options: Mapping[str, str]


class Confinement:
    """All kinds that were asked for; without any, plans stay as they are."""

    def __init__(
        self,
        layers: Sequence[Layer] = (),
        secrets: Sequence[Path] = (),
        let_through: frozenset[str] = frozenset(),
    ) -> None:
        self.layers = tuple(layers)
        self._secrets = tuple(secrets)
        self.let_through = let_through if layers else None
        """Variables of the node that its jobs get besides the usual ones; None: all, as they are not confined."""

    @classmethod
    def parse(
        cls,
        texts: Sequence[str],
        find: Callable[[str], Executor],
        secrets: Sequence[Path] = (),
        let_through: Sequence[str] = (),
    ) -> Confinement:
        """Understand what follows ``--confine``: ``NAME``, ``NAME=VALUE`` or ``NAME:OPTION=VALUE,...``.

        Args:
            texts: in the order in which they are to be applied.
            find: gives the executor of a name, or raises a DispyError.
            secrets: files with keys that the node uses.
            let_through: names of variables of the node that its jobs are to get besides the usual ones.

        Raises:
            DispyError: a name or an option is unknown, makes no sense, or is there twice.
        """
        if let_through and not texts:
            raise UsageError(
                f"--env {let_through[0]} is of use only with --confine: jobs that are not confined get all variables "
                "but dispy's own; leave it out"
            )
        layers: list[Layer] = []
        for text in texts:
            layer = _parse_one(text, find)
            if any(layer.executor is other.executor for other in layers):
                raise UsageError(f"--confine {layer.executor.NAME} is there twice; join both into one")
            layers.append(layer)
        return cls(layers, secrets, check_names(let_through))

    @property
    def user(self) -> str:
        """Name of the user as whom jobs run; empty: as whom the node runs."""
        return next((layer.options["user"] for layer in self.layers if layer.executor.NAME == "user"), "")

    def wrap(self, request: ExecutorRequest, plan: ExecutorPlan) -> ExecutorPlan:
        """Confine what an executor has planned for *request*; `finished` must follow, even if this raises.

        Raises:
            DispyError: it cannot be confined.
        """
        for layer in self.layers:
            plan = layer.executor.plan(self._for_layer(request, layer, plan))
        return plan

    def finished(self, request: ExecutorRequest) -> None:
        """Clear away what was arranged for a runner that has ended. It may take seconds."""
        for layer in reversed(self.layers):
            layer.executor.finished(self._for_layer(request, layer, None))

    def check(self, state: StateFolder) -> None:
        """See that all works on this machine: ask each kind, then start a process that is confined. Takes a second.

        Raises:
            DispyError: it does not; the message says what to do.
        """
        request = ExecutorRequest("", state.computations, "process", state.spool, state.path)
        for layer in self.layers:
            layer.executor.check(self._for_layer(request, layer, None))
        if self.layers:
            self._warn()
            self._rehearse(state)

    def _warn(self) -> None:
        """Tell if jobs could undo what confines them."""
        names = {layer.executor.NAME for layer in self.layers}
        if "cgroup" in names and names.isdisjoint(HOLDING):
            log.warning(CGROUP_ALONE)

    def _for_layer(
        self, request: ExecutorRequest, layer: Layer, inner: ExecutorPlan | None
    ) -> ExecutorRequest:
        return dataclasses.replace(request, inner=inner, options=layer.options, secrets=self._secrets)

    def _rehearse(self, state: StateFolder) -> None:
        folder, spool = state.make_folder(REHEARSAL), state.make_runner_spool()
        request = ExecutorRequest("rehearsal", folder, "process", spool, state.path)
        command = [sys.executable, "-c", PROGRAM, str(folder), str(spool)]
        try:
            plan = self.wrap(request, ExecutorPlan(command))
            state.hand_over(plan.user, folder, spool)
            trouble = _try_out(plan, request, self.let_through)
            if trouble:
                names = ", ".join(layer.executor.NAME for layer in self.layers)
                raise UsageError(
                    f"a process confined by {names} does not work on this machine: {trouble}; "
                    "mend that, or leave it out of --confine"
                )
        finally:
            self.finished(request)
            state.remove_runner_spool(spool)
            state.remove_folder(REHEARSAL)
            state.empty_trash()


def _parse_one(text: str, find: Callable[[str], Executor]) -> Layer:
    head, _, tail = text.partition(":")
    name, given, value = head.partition("=")
    executor = find(name)
    if not executor.WRAPS:
        raise UsageError(
            f"--confine {text}: {name!r} runs jobs and confines nothing; "
            "write user=NAME, cgroup:memory=2G,pids=200 or bubblewrap"
        )
    options = {name: value} if given else {}
    for part in tail.split(",") if tail else ():
        key, is_set, value = part.partition("=")
        if not is_set or key in options:
            raise UsageError(f"--confine {text}: {part!r} is not understood; write {name}:OPTION=VALUE,...")
        options[key] = value
    unknown = sorted(set(options) - executor.OPTIONS)
    if unknown:
        known = ", ".join(sorted(executor.OPTIONS)) or "none"
        raise UsageError(f"--confine {text}: {name!r} has no option {unknown[0]!r}; there are: {known}")
    return Layer(executor, options)


def _try_out(plan: ExecutorPlan, request: ExecutorRequest, let_through: frozenset[str] | None) -> str:
    """Run a plan to its end; return what went wrong, or an empty text."""
    account = find_account(plan.user) if plan.user else None
    try:
        done = subprocess.run(
            entering(plan.command, account, plan.cgroup),
            env=runner_environment(os.environ, plan, {}, let_through),
            cwd=request.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=REHEARSAL_S,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        return str(error)
    except subprocess.TimeoutExpired:
        return f"it did not end within {REHEARSAL_S:.0f} seconds"
    lines = done.stderr.strip().splitlines()
    if done.returncode:
        return lines[-1] if lines else f"it ended with status {done.returncode}"
    missing = [folder for folder in (request.folder, request.spool) if not (folder / "rehearsal").exists()]
    return f"what it wrote into {str(missing[0])!r} is not there" if missing else ""


def refuse_as_job_executor(executor: Executor) -> None:
    """Refuse a client's choice of what only confines.

    Raises:
        UsageError: it does.
    """
    if executor.WRAPS:
        raise UsageError(
            f"{executor.NAME!r} confines jobs, which is for the owner of a node to decide, and cannot run them; "
            "use 'function' or 'program'"
        )
