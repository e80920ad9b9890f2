"""Every exception that dispy raises, in one tree.

    DispyError
    ├── UsageError                  a parameter or a call that cannot be right (also a ValueError)
    │   ├── InvalidComputation      the computation is neither a function nor a program that exists
    │   ├── InvalidNodes            no element of ``nodes`` can be used
    │   └── NotPicklable            an argument or a function that cannot be sent
    ├── ClusterClosed               a call on a cluster that is closed
    ├── NoNodesError                no node can be used, with a report of what was tried
    ├── PluginError
    │   ├── PluginNotInstalled      what was asked for lives in a plugin that is not there
    │   ├── PluginConflict          two plugins claim one name
    │   └── ConflictingInstall      the original dispy lies over this one
    ├── TransportError              a connection could not be made or broke
    │   └── SecurityError           one side does not accept the other
    │       └── UnknownKey          the two have no key in common
    ├── CredentialsError            a key or certificate cannot be used
    ├── ProtocolError
    │   ├── LocalProtocolError      our own code asked for something illegal
    │   └── RemoteProtocolError     the peer sent what no correct peer sends
    └── JobError                    values of ``job.error``, unless the job raised an exception itself
        ├── JobRaised               the job's exception could not be rebuilt here
        ├── JobDied                 the job's process ended without a result
        │   └── JobKilled           a signal ended it, which the system or somebody else had sent
        ├── JobLimitExceeded        the node ended the job, because it went beyond one of its limits
        │   ├── JobTimeout          it ran, or computed, for too long
        │   └── JobMemoryExceeded   it used too much memory
        ├── JobBroken               the job could not be run, or its result could not be sent or loaded
        ├── JobCancelled            the job was cancelled
        └── JobAbandoned            the node vanished and the job may not run again

Messages are lower case, name the offending value, and end with the remedy when there is one.
"""

from __future__ import annotations


class DispyError(Exception):
    """Root of all exceptions that dispy raises on purpose."""


class UsageError(DispyError, ValueError):
    """A parameter or a call that cannot be right."""


class InvalidComputation(UsageError):
    """The computation is neither a function that can be shipped nor a program that exists."""


class InvalidNodes(UsageError):
    """No element of ``nodes`` can be used."""


class NotPicklable(UsageError, TypeError):
    """An argument or a function cannot be sent to a node."""


class ClusterClosed(DispyError):
    """The cluster is closed and takes no more calls."""


class NoNodesError(DispyError):
    """No node can be used; the message tells what was tried and what answered."""


class PluginError(DispyError):
    """Something is wrong with an installed plugin, or one is missing."""


class PluginNotInstalled(PluginError):
    """What was asked for lives in a plugin that is not installed.

    Args:
        feature: what was asked for, as the user would say it.
        extra: the extra of ``dispy-core`` that brings it.
    """

    def __init__(self, feature: str, extra: str) -> None:
        self.feature = feature
        self.extra = extra
        super().__init__(f"{feature} is not installed; install it with: pip install 'dispy-core[{extra}]'")

    def __reduce__(self) -> tuple[type[PluginNotInstalled], tuple[str, str]]:
        """Be made again from what it was made from, not from its message."""
        return type(self), (self.feature, self.extra)


class PluginConflict(PluginError):
    """Two plugins claim one name, or a plugin was written for another version of an interface."""


class ConflictingInstall(PluginError):
    """The original ``dispy`` distribution lies in the same environment and owns the same name."""


class TransportError(DispyError):
    """A connection could not be made, or broke; the cause is the operating system's error."""


class SecurityError(TransportError):
    """One side of a connection does not accept the other: expired, unknown authority, wrong role."""


class UnknownKey(SecurityError):
    """The two sides of a connection have no key in common."""


class CredentialsError(DispyError):
    """A key or a certificate cannot be used, or cannot be read; the message tells what to do."""


class ProtocolError(DispyError):
    """Somebody broke the protocol."""


class LocalProtocolError(ProtocolError):
    """Our own code asked the protocol machine for something illegal: a bug in dispy or a plugin."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what no correct peer sends; the link to it is closed."""


class JobError(DispyError):
    """How a job failed. It is the value of ``job.error``; dispy never raises it by itself."""


class JobRaised(JobError):
    """The job raised an exception that could not be rebuilt here; the text is its traceback."""


class JobDied(JobError):
    """The job's process ended without a result.

    Args:
        message: what happened, for people.
        exit_code: exit status, or minus the number of the signal that ended the process.
    """

    def __init__(self, message: str, exit_code: int = 0) -> None:
        self.exit_code = exit_code
        super().__init__(message)


class JobKilled(JobDied):
    """A signal ended the job's process: of the kernel, such as when memory runs out, or of somebody else.

    Args: as those of `JobDied`; ``exit_code`` is minus the number of the signal.
    """


class JobLimitExceeded(JobError):
    """The node ended the job because it went beyond a limit.

    Args:
        message: which limit, where, and what to do.
        limit: name of the limit, as in ``cluster.options``: "timeout", "cpu_time", "memory" or "processes".
    """

    def __init__(self, message: str, limit: str = "") -> None:
        self.limit = limit
        super().__init__(message)


class JobTimeout(JobLimitExceeded):
    """The job ran for longer than its ``timeout``, or computed for longer than its ``cpu_time``."""


class JobMemoryExceeded(JobLimitExceeded):
    """The job used more than its ``memory``."""


class JobBroken(JobError):
    """The job could not be run, or its result could not be sent or loaded."""


class JobCancelled(JobError):
    """The job was cancelled."""


class JobAbandoned(JobError):
    """The node vanished while it had the job, and the job may not be started a second time."""
