"""Fuzzes what a client with ``results="safe"`` makes of a node's result."""

from __future__ import annotations

import loop

from dispy.model import Outcome
from dispy.packing.results import ResultBody, decode_end
from dispy.wire.messages import JobResult

OUTCOMES = (Outcome.RETURNED, Outcome.RAISED)


def target(data: bytes) -> None:
    """Decode it as a value, as an exception, and as a whole body."""
    body = ResultBody(value=data, error=b"traceback").pack()
    for outcome in OUTCOMES:
        for sent in (body, data):
            result = JobResult(1, 1, outcome, 0, "", 1.0, 2.0, sent)
            end = decode_end(result, "node", safe=True)
            if outcome == Outcome.RAISED and end.error is None:
                raise AssertionError("a job that raised has no error")


if __name__ == "__main__":
    loop.run("results", target)
