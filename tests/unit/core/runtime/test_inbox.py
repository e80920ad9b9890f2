"""Large results are put together from chunks."""

from __future__ import annotations

import pytest

from dispy.errors import RemoteProtocolError
from dispy.model import Outcome
from dispy.runtime.inbox import ResultInbox
from dispy.wire.messages import JobResult, JobResults, JobsStarted, JobStart


def result(job: int, *, body: bytes = b"", stream: int = 0, size: int = 0) -> JobResult:
    return JobResult(job, 1, 0, 0, "", 1.0, 2.0, body, stream, size)


def test_inline_results_pass() -> None:
    message = JobResults("c", [result(1, body=b"x")])
    assert ResultInbox().hold_back(message) == [message]


def test_streamed_result_is_held_back_until_it_is_whole() -> None:
    inbox = ResultInbox()
    message = JobResults("c", [result(1, body=b"x"), result(2, stream=5, size=6)])
    started, passed = inbox.hold_back(message)
    # Job 2 counts as started from now on, whatever overtakes its result.
    assert started == JobsStarted("c", [JobStart(2, 1, 1.0)])
    assert passed == JobResults("c", [result(1, body=b"x")])
    inbox.add_chunk(5, b"abc")
    inbox.add_chunk(5, b"def")
    whole = inbox.finish(5, "")
    assert whole is not None
    assert (whole.computation, whole.results[0].job, bytes(whole.results[0].body)) == ("c", 2, b"abcdef")
    assert whole.results[0].stream == 0


def test_result_of_a_job_that_never_started_is_held_back_silently() -> None:
    never = JobResult(2, 1, 4, 0, "", 0.0, 0.0, b"", stream=5, size=6)
    assert ResultInbox().hold_back(JobResults("c", [never])) == []


def test_result_that_the_node_cannot_read_is_broken() -> None:
    inbox = ResultInbox()
    inbox.hold_back(JobResults("c", [result(2, stream=5, size=6)]))
    inbox.add_chunk(5, b"abc")
    (broken,) = inbox.finish(5, "disk error").results
    assert (broken.job, broken.outcome, broken.body, broken.stream) == (2, Outcome.BROKEN, b"", 0)
    assert "disk error" in broken.detail


@pytest.mark.parametrize("data", [b"abc", b"abcdefg"])
def test_wrong_length_is_the_peers_fault(data: bytes) -> None:
    inbox = ResultInbox()
    inbox.hold_back(JobResults("c", [result(2, stream=5, size=6)]))
    with pytest.raises(RemoteProtocolError, match="stream 5"):
        inbox.add_chunk(5, data)
        inbox.finish(5, "")


def test_unannounced_streams_are_the_peers_fault() -> None:
    with pytest.raises(RemoteProtocolError, match="no message has announced"):
        ResultInbox().add_chunk(1, b"x")
    with pytest.raises(RemoteProtocolError, match="no message has announced"):
        ResultInbox().finish(1, "")
