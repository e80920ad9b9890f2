"""The hooks of dispy: what plugins can add, and what they are told.

    *register* hooks (``dispy_register_*``) return classes; dispy finds them by their ``NAME``.
    *observer* hooks (``dispy_on_*``) are told what has happened, in batches.

A plugin is a module, or any object, with functions of these names marked by `hookimpl`. It is found through
an entry point of the group ``dispy``. All hooks are plain functions: an ``async def`` is refused, since pluggy
cannot await; what awaits lives behind the class that a register hook returns. `docs/hooks.md` lists the
hooks, `docs/plugins.md` shows how to write a plugin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from dispy.discovery import Discovery
    from dispy.interfaces import (
        Allocator,
        Command,
        Credentials,
        Executor,
        FaultPolicy,
        StreamSecurity,
        Transport,
    )
    from dispy.model import JobId, JobStatus, NodeStatus

PROJECT = "dispy"
"""Name of the entry-point group, and of the markers below for pluggy."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as implementation of the hook of that name."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """A job has a new status.

    Attributes:
        job: number of the job within this client.
        computation: name of the function or program that it calls.
        node: name of the node that has or had it; empty if none has.
        reason: why it ended without a result; empty otherwise.
    """

    job: JobId
    computation: str
    status: JobStatus
    node: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """A node became usable for a computation, was lost to it, or told what it has free.

    Attributes:
        node: name of the node, as it calls itself.
        host: address that it was reached at, or came from.
        computation: name of the function or program.
    """

    node: str
    host: str
    status: NodeStatus
    computation: str


@hookspec
def dispy_register_transport() -> type[Transport] | Sequence[type[Transport]]:  # type: ignore[empty-body]
    """Offer transports: ways to make byte streams between participants.

    Fires once in a process that makes clusters, and once in a daemon, when the first address is used.

    Returns:
        A class, or several. One is chosen for each address by its scheme, and made without arguments.

    It must not open anything, nor look at the network: that is for the transport's own methods.
    """


@hookspec
def dispy_register_security() -> type[StreamSecurity] | Sequence[type[StreamSecurity]]:  # type: ignore[empty-body]
    """Offer ways to make a byte stream of any transport secret, with both its ends known.

    Fires once in a process that makes clusters, and once in a daemon, when the first connection is to be secured.

    Returns:
        A class, or several, made without arguments.

    It must not read files: what it needs comes with each call of its methods.
    """


@hookspec
def dispy_register_credentials() -> type[Credentials] | Sequence[type[Credentials]]:  # type: ignore[empty-body]
    """Offer sources of credentials: what a participant shows, and what it accepts from others.

    Fires once in a process that makes clusters, and once in a daemon, when the first connection is to be secured.

    Returns:
        A class, or several, made without arguments. One is chosen by its name: "certificate" if the user names
        certificates, else "secret".

    It must not read files or derive keys: that is for the method ``load``.
    """


@hookspec
def dispy_register_discovery() -> type[Discovery] | Sequence[type[Discovery]]:  # type: ignore[empty-body]
    """Offer ways to find nodes that nobody has named.

    Fires once in a process that makes clusters, when one of them takes nodes by a pattern, and once in a node that
    wants to be found.

    Returns:
        A class, or several, made without arguments. All of them are used, side by side.

    It must not open anything, nor look at the network: that is for the methods of the class.
    """


@hookspec
def dispy_register_executor() -> type[Executor] | Sequence[type[Executor]]:  # type: ignore[empty-body]
    """Offer executors: ways to run the jobs of a computation on a node.

    Fires once in a node daemon, when the first computation arrives, or at its start if jobs are to be confined.

    Returns:
        A class, or several, made without arguments. One is chosen for each computation by the name that its
        client gives; those that confine what others have planned are chosen by the node's owner.

    It must not start a process or touch the file system: that is for the runner which the plan describes.
    """


@hookspec
def dispy_register_fault_policy() -> type[FaultPolicy] | Sequence[type[FaultPolicy]]:  # type: ignore[empty-body]
    """Offer policies that decide what becomes of the jobs of a lost node.

    Fires once, when the first cluster is made.

    Returns:
        A class, or several, made without arguments. A policy that does not come with dispy is preferred to
        those that do; two such are a conflict.

    It must not decide anything yet, and must not block.
    """


@hookspec
def dispy_register_allocator() -> type[Allocator] | Sequence[type[Allocator]]:  # type: ignore[empty-body]
    """Offer allocators: ways to choose the node that gets the next job.

    Fires once, when the first cluster is made that names one.

    Returns:
        A class, or several, made without arguments. One is chosen for each cluster by its name.

    It must not decide anything yet, and must not block.
    """


@hookspec
def dispy_register_command() -> type[Command] | Sequence[type[Command]]:  # type: ignore[empty-body]
    """Offer sub-commands of the ``dispy`` program.

    Fires once in each run of the program, even for ``dispy --help``.

    Returns:
        A class, or several, made without arguments; ``NAME`` and ``HELP`` are shown in the list of commands.

    It must not import what the command needs when it runs: that is for its ``build`` and for the command
    itself, so that ``dispy --help`` stays fast.
    """


@hookspec
def dispy_on_jobs(changes: Sequence[JobEvent]) -> None:
    """Hear of jobs that have a new status.

    Fires in the engine's thread, soon after the changes, with all that came together, in order.

    Args:
        changes: at least one; the changes of one job are in the order in which they happened.

    What it returns is ignored. It must not block, since everything waits for it, and must not call methods of
    clusters or jobs. An exception is logged under the plugin's name and stops nothing.
    """


@hookspec
def dispy_on_nodes(changes: Sequence[NodeEvent]) -> None:
    """Hear of nodes that became usable for a computation, or were lost to it.

    Fires in the engine's thread, soon after the changes, in order.

    Args:
        changes: at least one.

    What it returns is ignored. It must not block, since everything waits for it, and must not call methods of
    clusters or jobs. An exception is logged under the plugin's name and stops nothing.
    """
