"""How the program ends: its exit statuses, and what leads to them."""

from __future__ import annotations

from dispy.errors import DispyError, NoNodesError, PluginError, UsageError

SUCCESS = 0
SOME_JOB_FAILED = 1
USAGE = 2
NO_NODES = 3
INTERRUPTED = 130
"""128 and the number of SIGINT, as shells report a program that ended by Ctrl-C."""


class Stopped(KeyboardInterrupt):
    """A signal asks the program to end; it is dealt with as Ctrl-C is.

    Args:
        signal_number: the signal; the exit status tells of it.
    """

    def __init__(self, signal_number: int) -> None:
        self.exit_status = 128 + signal_number
        super().__init__(f"signal {signal_number}")


class Told(KeyboardInterrupt):
    """The program was interrupted, and has said so.

    Args:
        exit_status: what to end with.
    """

    def __init__(self, exit_status: int) -> None:
        self.exit_status = exit_status
        super().__init__("interrupted")


def status_of_interrupt(interrupt: BaseException | None) -> int:
    """Return the exit status for what has interrupted the program."""
    return interrupt.exit_status if isinstance(interrupt, Stopped | Told) else INTERRUPTED


def status_of(error: DispyError) -> int:
    """Return the exit status for an error that ends the program."""
    if isinstance(error, NoNodesError):
        return NO_NODES
    return USAGE if isinstance(error, UsageError | PluginError) else SOME_JOB_FAILED
