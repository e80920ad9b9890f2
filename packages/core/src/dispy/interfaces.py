"""What a plugin implements: the interfaces behind the ``dispy_register_*`` hooks.

Every class has ``NAME``, which users and entry points know it by, and ``API_VERSION``, the version of the
interface that it was written for. Contract suites for them stand in `dispy_testing.contracts`.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import click
    import trio

API_VERSION = 1
"""Version of the interfaces in this module."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a participant listens: scheme of the transport, host (or path), port (0 where there is none)."""

    scheme: str
    host: str
    port: int = 0

    def __str__(self) -> str:
        if not self.port:
            return f"{self.scheme}:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}:{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of an accepted or dialled connection."""

    host: str
    """Its address, as the transport knows it; never looked up by name."""
    is_local: bool
    """True if the connection cannot have come from another machine."""


class Transport(ABC):
    """Makes byte streams between participants.

    Every stream is a `trio.abc.Stream`. Operating-system errors are raised as `dispy.errors.TransportError`,
    whose message names the address and what to do.
    """

    NAME: ClassVar[str]
    """Scheme of its addresses: ``"tcp"`` serves ``tcp:host:port`` and plain host names."""
    API_VERSION: ClassVar[int]

    @abstractmethod
    async def dial(self, address: Address, *, local_host: str | None = None) -> tuple[trio.abc.Stream, Peer]:
        """Connect to *address*. Cancellation leaves nothing open.

        Args:
            address: where to.
            local_host: address of this machine that the connection comes from, where the transport knows such;
                None leaves the choice to the system.

        Raises:
            TransportError: nobody answers there, the name is unknown, or *local_host* cannot be used.
        """

    @abstractmethod
    def listen(
        self, addresses: Sequence[Address], handler: Callable[[trio.abc.Stream, Peer], Awaitable[None]]
    ) -> AbstractAsyncContextManager[Sequence[Address]]:
        """Accept connections on *addresses* while the context is open; it gives the addresses really bound.

        Each connection is handled in a task of its own, which closes the stream at its end.

        Raises:
            TransportError: an address cannot be bound (in use, not of this machine, not allowed).
        """


class Verdict(enum.Enum):
    """What becomes of a job whose node was lost."""

    RERUN = "rerun"
    ABANDON = "abandon"


@dataclass(frozen=True, slots=True)
class LostAttempt:
    """A started job whose node is lost: what a fault policy decides about."""

    reentrant: bool
    """The user declared that the computation's jobs may run more than once."""
    pinned: bool
    """The job was bound to the node that is lost."""
    attempt: int
    """Number of the attempt that is lost, from 1."""


class FaultPolicy(ABC):
    """Decides what becomes of jobs of a lost node. Pure: it must not block, and keeps no state."""

    NAME: ClassVar[str]
    API_VERSION: ClassVar[int]
    HONOURS_REENTRANT: ClassVar[bool]
    """True if ``JobCluster(reentrant=True)`` may rely on this policy."""

    @abstractmethod
    def decide(self, lost: LostAttempt) -> Verdict:
        """Tell what becomes of the job."""


class Command(ABC):
    """A sub-command of the ``dispy`` program."""

    NAME: ClassVar[str]
    API_VERSION: ClassVar[int]
    HELP: ClassVar[str]
    """One line for ``dispy --help``, which imports no command."""

    @abstractmethod
    def build(self) -> click.Command:
        """Make the click command; it is called only when this command or its help is wanted."""


@dataclass(frozen=True, slots=True)
class ExecutorRequest:
    """What an executor is asked to start."""

    name: str
    """Name of the computation: the function's name, or the program's file name."""
    folder: Path
    """The computation's folder, where its files already are; working directory of its jobs."""
    isolation: str


@dataclass(frozen=True, slots=True)
class ExecutorPlan:
    """How jobs of a computation are run.

    Attributes:
        command: starts the runner. The runner's control socket is its descriptor 3.
        environment: all of the runner's environment.
        program: command line of each job before its own arguments; empty if jobs are function calls.
    """

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    program: list[str] = field(default_factory=list)


class Executor(ABC):
    """Decides how the jobs of a computation are run on a node."""

    NAME: ClassVar[str]
    """Named by the ``executor`` field of OpenComputation."""
    API_VERSION: ClassVar[int]

    @abstractmethod
    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        """Tell how to run the jobs of a computation.

        Raises:
            DispyError: this node cannot; the message goes to the user of the computation.
        """
