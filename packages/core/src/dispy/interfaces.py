"""What a plugin implements: the interfaces behind the ``dispy_register_*`` hooks.

Every class has ``NAME``, which users and entry points know it by, and ``API_VERSION``, the version of the
interface that it was written for. Contract suites for them stand in `dispy_testing.contracts`.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dispy.model import AccessRole

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
class Identity:
    """Who a peer has proved to be."""

    name: str
    """For people: which key it has, or what its certificate says."""
    roles: frozenset[AccessRole]
    """What it may do; with a role come those that the role includes."""
    subject: str = ""
    """Whom an authority has certified it to be: the same for renewed certificates, and for nobody else. Empty if those
    who are accepted issue certificates to themselves, or share one."""
    key: str = ""
    """Fingerprint of a key that this peer alone has, and keeps as long as its process lives; empty if there is none."""
    account: str = ""
    """Whose files that stay it may see: the same for all who share a key, or have certificates for one subject."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of an accepted or dialled connection."""

    host: str
    """Its address, as the transport knows it; never looked up by name."""
    is_local: bool
    """True if the connection cannot have come from another machine."""
    identity: Identity | None = None
    """Who it is; None as long as nobody has asked for a proof."""


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


@dataclass(frozen=True, slots=True)
class SecurityRequest:
    """What the user said about who may take part.

    Attributes:
        role: what this process is to others, for credentials that it issues to itself.
        secret: the key or passphrase that was given; None if none was.
        secret_file: path of a file that holds one; empty if none was given.
        certfile: path of a file (PEM) with the certificate to show, and the key too unless *keyfile* is given.
        keyfile: path of a file (PEM) with the key of that certificate; empty if *certfile* holds it.
        cafile: path of a file (PEM) with the authorities whose certificates are accepted; empty if *certfile* says.
    """

    role: AccessRole
    secret: str | None = field(default=None, repr=False)
    secret_file: str = ""
    certfile: str = ""
    keyfile: str = ""
    cafile: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Credential:
    """What one side of a connection shows, and what it accepts from the other.

    Attributes:
        name: for people, who have to compare it on two machines: ``"key 3f2a-91bc-77d0-0c4e"``.
        chain: certificate to show, and those between it and its authority; PEM.
        key: private key of that certificate; PEM, not encrypted.
        authorities: certificates of the authorities that are trusted, and no others; PEM.
        default_roles: roles of a peer whose certificate tells none; empty: such a peer is refused.
        hint_key: 32 bytes that all who share this credential have, and nobody else, so that one side can tell
            the other which credential it is about to use, without showing it to strangers; empty if there is none.
            All who have it issue certificates to themselves, so that these tell nobody apart.
        discovery_key: 32 bytes that all who share this credential have, and nobody else, so that they find each other
            on a network; empty if there is none.
        renew_at: when to ask for another one, before this one expires; seconds since the epoch.
        roles: what the certificate says that its owner may do, so that a wrong one is found before it is shown;
            empty if that is not known.
        source: where it is from, for people: ``"DISPY_SECRET"``; empty if that is not known.
        remedy: what to do if the other side does not have it: ``"set DISPY_SECRET to the same on both sides"``.
    """

    name: str
    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)
    authorities: bytes = field(repr=False)
    default_roles: frozenset[AccessRole] = frozenset()
    hint_key: bytes = field(default=b"", repr=False)
    discovery_key: bytes = field(default=b"", repr=False)
    renew_at: float = float("inf")
    roles: frozenset[AccessRole] = frozenset()
    source: str = ""
    remedy: str = ""


class Credentials(ABC):
    """A source of credentials: a shared key, files with certificates."""

    NAME: ClassVar[str]
    """``"secret"`` or ``"certificate"``; what the user gives decides which of them is asked."""
    API_VERSION: ClassVar[int]

    @abstractmethod
    def load(self, request: SecurityRequest) -> Sequence[Credential]:
        """Return the credentials to use, the preferred one first; at least one.

        All of them are accepted from peers. It may read files and take a second; it is called in a thread, again
        and again, and gives the same objects as long as nothing has changed.

        Raises:
            CredentialsError: a file is missing, unreadable by its owner alone, or holds no credential.
        """


class StreamSecurity(ABC):
    """Makes a byte stream secret, and proves to each end who is at the other."""

    NAME: ClassVar[str]
    API_VERSION: ClassVar[int]

    @abstractmethod
    async def connect(
        self, stream: trio.abc.Stream, credential: Credential, *, wants: frozenset[AccessRole]
    ) -> tuple[trio.abc.Stream, Identity]:
        """Secure the stream from the side that dialled. It returns when the other side has accepted us too.

        The stream that is returned owns *stream*. If anything is raised, the caller closes *stream*.

        Args:
            wants: roles of which the other side must have one.

        Raises:
            UnknownKey: the other side does not have this credential; another one may be tried, on a new connection.
            SecurityError: the other side is not accepted, or does not accept us; the message says why.
        """

    @abstractmethod
    async def accept(
        self,
        stream: trio.abc.Stream,
        credentials: Sequence[Credential],
        *,
        wants: frozenset[AccessRole],
    ) -> tuple[trio.abc.Stream, Identity]:
        """Secure the stream from the side that listens; raises as `connect` does.

        What a stranger sends costs a few KiB at most. There is no limit of time: that is the caller's.
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


class Allocator(ABC):
    """Decides which node gets the next job of a cluster. Pure: it must not block, and keeps no state."""

    NAME: ClassVar[str]
    """What ``JobCluster(placement=...)`` calls it."""
    API_VERSION: ClassVar[int]

    @abstractmethod
    def rank(self, busy: int, slots: int) -> float:
        """Rank a node with a free slot; the next job goes to the one with the smallest number.

        Of equal ones it goes to the one that has been free for longest. Nodes without a free slot are not asked about;
        they come behind.

        Args:
            busy: how many jobs of the cluster are there, less than *slots*.
            slots: how many the cluster may run there at once.

        Returns:
            a finite number that depends on the arguments alone.
        """


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
    spool: Path = field(default=Path())
    """Folder of the runner alone: bodies of jobs come in it, and the runner writes large results into it."""
    state: Path = field(default=Path())
    """The node's folder, which holds the other two; nothing else in it is for jobs."""
    inner: ExecutorPlan | None = None
    """The plan to be confined; None for an executor that confines nothing."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What the node's owner has set for this executor; names are among its ``OPTIONS``."""
    secrets: tuple[Path, ...] = ()
    """Files with keys that the node uses, as far as they are not in the folder of the configuration."""


@dataclass(frozen=True, slots=True)
class ExecutorPlan:
    """How jobs of a computation are run.

    Attributes:
        command: starts the runner. The environment variable DISPY_RUNNER_FD tells the descriptor of the runner's
            control socket, which the command must hand on.
        environment: what is added to the node's own environment, without its variables ``DISPY_*``.
        program: command line of each job before its own arguments; empty if jobs are function calls.
        user: name of the user as whom *command* is started; empty: as the node's own. The node must be root's.
        cgroup: folder of the control group (v2) that the process enters before anything else; empty: the node's.
    """

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    program: list[str] = field(default_factory=list)
    user: str = ""
    cgroup: str = ""


class Executor(ABC):
    """Decides how the jobs of a computation are run on a node.

    One that confines (``WRAPS``) changes the plan of another. It is chosen by the node's owner, with ``--confine``,
    and never by a client.
    """

    NAME: ClassVar[str]
    """Named by the ``executor`` field of OpenComputation, or by ``--confine``."""
    API_VERSION: ClassVar[int]
    WRAPS: ClassVar[bool] = False
    """True if it confines what another executor has planned."""
    OPTIONS: ClassVar[frozenset[str]] = frozenset()
    """Options that the node's owner may set; one that is called like the executor comes from ``NAME=VALUE``."""

    @abstractmethod
    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        """Tell how to run the jobs of a computation.

        Raises:
            DispyError: this node cannot; the message goes to the user of the computation.
        """

    def check(self, request: ExecutorRequest) -> None:
        """See, before the node starts, whether this machine can do what its owner wants.

        It is called once, in a thread, for an executor that confines. It may arrange what all its plans need.

        Args:
            request: of a computation that does not exist; its folders are those in which the folders of
                computations and runners will lie.

        Raises:
            DispyError: it cannot; the message says what to do.
        """
        del request

    def finished(self, request: ExecutorRequest) -> None:
        """Clear away what `plan` has arranged, if anything.

        It is called in a thread when the runner has ended, once for each `plan` of an executor that confines,
        even if that raised.
        """
        del request
