"""What we owe a peer: answers to what it has sent that it has not read yet.

A peer that sends much and reads nothing would make us keep answers without end. So a link stops reading from a peer
that we owe more than `OWED_HIGH`, until it has read enough to get us below `OWED_LOW`.

Only answers that nobody answers count: acknowledgements, rejections and their like. So does output of jobs, of which an
honest scheduler asks for less than `OWED_HIGH` at a time. What else is sent is bounded where
it comes from (jobs by the scheduler's windows, results by what a node holds for a client), and must not count: two
honest peers that both send much would then stop reading at the same time, and wait for each other. Even so two peers
could owe each other much, so a link that has waited for `STALL_S` reads once more, which lets the other's writes go on;
it gives up only a peer that we owe more than `OWED_MAX` by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dispy.wire import messages as msg

OWED_HIGH = 8 * 1024 * 1024
"""Acknowledgements of some 60 000 jobs: more than honest peers ever have under way."""

OWED_LOW = OWED_HIGH // 2

OWED_MAX = 2 * OWED_HIGH

STALL_S = 1.0
"""Seconds; much shorter than what a silent peer is given, as nothing is heard meanwhile."""

MESSAGE_BYTES = 256
KEY_BYTES = 128
"""What a message, and a key or acknowledgement in it, take in memory, about."""

NUMBER_BYTES = 40
"""The same for a number in a list."""


def _attempts(message: Any) -> int:
    return MESSAGE_BYTES + KEY_BYTES * len(message.attempts)


def _acks(message: msg.AckNews) -> int:
    return MESSAGE_BYTES + KEY_BYTES * len(message.acks)


def _findings(message: msg.Reconciled) -> int:
    keys = sum(len(one.missing) for one in message.findings)
    numbers = sum(len(one.data) for one in message.findings)
    return MESSAGE_BYTES * (1 + len(message.findings)) + KEY_BYTES * keys + NUMBER_BYTES * numbers


def _paths(message: msg.FilesWanted) -> int:
    return MESSAGE_BYTES + 32 * len(message.have) + sum(KEY_BYTES + len(path) for path in message.paths)


def _plain(message: Any) -> int:
    return MESSAGE_BYTES


def _reason(message: Any) -> int:
    return MESSAGE_BYTES + len(message.reason)


def _output(message: msg.JobOutput) -> int:
    return MESSAGE_BYTES + len(message.data)


COST_OF: dict[type[msg.Message], Callable[[Any], int]] = {
    msg.AckResults: _attempts,
    msg.AckNews: _acks,
    msg.JobsRejected: _attempts,
    msg.Reconciled: _findings,
    msg.ComputationReady: _plain,
    msg.ComputationFailed: _reason,
    msg.ComputationClosed: _plain,
    msg.FileTaken: _reason,
    msg.FilesWanted: _paths,
    msg.DataLost: _reason,
    msg.StreamCredit: _plain,
    msg.JobOutput: _output,
}
"""Answers -> what one takes in memory, in bytes. Whatever is not here does not count."""
