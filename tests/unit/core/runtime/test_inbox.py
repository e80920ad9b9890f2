"""Large results are put together from chunks."""

from __future__ import annotations

import pytest

from dispy.errors import RemoteProtocolError, UsageError
from dispy.model import Outcome
from dispy.runtime.holding import ResultMemory
from dispy.runtime.inbox import MOST_ANNOUNCED, MOST_DETAIL_CHARS, MOST_INLINE_BYTES, NewsEnd, ResultInbox
from dispy.wire.messages import FILE, PARTIAL, JobNews, JobResult, JobResults, JobsStarted, JobStart, News


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


class Ground:
    """A landing that notes what happens to it."""

    def __init__(self, trouble: Exception | None = None) -> None:
        self.told: list[object] = []
        self.trouble = trouble

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.told.append(bytes(data))

    def finish(self) -> None:
        self.told.append("finish")
        if self.trouble is not None:
            raise self.trouble

    def abandon(self) -> None:
        self.told.append("abandon")


PART = News(1, 1, 1, PARTIAL, b"", 5, 6)
A_FILE = News(1, 1, 2, FILE, b"", 6, 6, "x")


def test_intermediate_results_wait_for_their_bodies() -> None:
    inbox = ResultInbox()
    small = News(1, 1, 2, PARTIAL, b"small")
    assert inbox.hold_back(JobNews("c", [PART, small])) == [JobNews("c", [small])]
    inbox.add_chunk(5, b"abcdef")
    whole = inbox.finish(5, "")
    assert isinstance(whole, JobNews)
    assert (bytes(whole.news[0].body), whole.news[0].stream) == (b"abcdef", 0)


def test_what_the_node_cannot_read_is_acknowledged_without_effect() -> None:
    inbox = ResultInbox()
    inbox.hold_back(JobNews("c", [PART]))
    assert inbox.finish(5, "disk error") == NewsEnd("c", PART, taken=False)


@pytest.mark.parametrize("trouble", [None, OSError("full"), UsageError("no time")])
def test_files_go_to_their_place(trouble: Exception | None) -> None:
    ground = Ground(trouble)
    inbox = ResultInbox(lambda computation, news: ground)
    assert inbox.hold_back(JobNews("c", [A_FILE])) == []
    inbox.add_chunk(6, b"abc")
    inbox.add_chunk(6, b"def")
    assert inbox.finish(6, "") == NewsEnd("c", A_FILE, taken=trouble is None)
    assert ground.told == [b"abc", b"def", "finish"]


def test_refused_files_are_read_to_their_end() -> None:
    inbox = ResultInbox()
    inbox.hold_back(JobNews("c", [A_FILE]))
    inbox.add_chunk(6, b"abcdef")
    assert inbox.finish(6, "") == NewsEnd("c", A_FILE, taken=False)


@pytest.mark.parametrize("how", ["broken off", "too short", "link closed"])
def test_half_a_file_is_removed(how: str) -> None:
    ground = Ground()
    inbox = ResultInbox(lambda computation, news: ground)
    inbox.hold_back(JobNews("c", [A_FILE]))
    inbox.add_chunk(6, b"abc")
    if how == "broken off":
        assert inbox.finish(6, "gone") == NewsEnd("c", A_FILE, taken=False)
    elif how == "too short":
        with pytest.raises(RemoteProtocolError, match="3 bytes instead of 6"):
            inbox.finish(6, "")
    else:
        inbox.close()
    assert ground.told == [b"abc", "abandon"]


def test_file_without_a_stream_is_the_peers_fault() -> None:
    with pytest.raises(RemoteProtocolError, match="without a stream"):
        ResultInbox().hold_back(JobNews("c", [News(1, 1, 1, FILE, b"x")]))


def nobody(computation: str, job: int, attempt: int) -> bool:
    return False


def test_result_that_nobody_awaits_is_not_kept() -> None:
    memory = ResultMemory(1 << 20)
    inbox = ResultInbox(is_awaited=nobody, account=memory.account(1))
    inbox.hold_back(JobResults("c", [result(2, stream=5, size=6)]))
    inbox.add_chunk(5, b"abcdef")
    assert memory.held_bytes == 0
    (told,) = inbox.finish(5, "").results  # the engine acknowledges it, and the node forgets it
    assert (told.job, told.outcome, told.body, told.stream) == (2, Outcome.BROKEN, b"", 0)


def test_result_without_room_breaks_its_job_and_says_what_to_do() -> None:
    memory = ResultMemory(100)
    inbox = ResultInbox(account=memory.account(1))
    inbox.hold_back(JobResults("c", [result(1, stream=4, size=40), result(2, stream=5, size=1 << 40)]))
    inbox.add_chunk(4, bytes(40))
    for _ in range(10):
        inbox.add_chunk(5, bytes(1000))
    inbox.add_chunk(4, b"")
    (fits,) = inbox.finish(4, "").results
    assert (fits.outcome, len(fits.body), memory.held_bytes) == (Outcome.RETURNED, 40, 40)
    inbox.finish(5, "broken off")
    inbox.hold_back(JobResults("c", [result(3, stream=6, size=11)]))
    inbox.add_chunk(6, bytes(11))
    (broken,) = inbox.finish(6, "").results
    assert (broken.outcome, broken.body) == (Outcome.BROKEN, b"")
    assert "its result of 11 bytes was not taken" in broken.detail
    assert "dispy.config.ResultMemory is 100" in broken.detail


def test_what_fitted_when_it_was_announced_may_not_fit_when_it_comes() -> None:
    memory = ResultMemory(100)
    inbox = ResultInbox(account=memory.account(1))
    inbox.hold_back(JobResults("c", [result(1, stream=4, size=40), result(2, stream=5, size=40)]))
    inbox.add_chunk(4, bytes(40))
    inbox.add_chunk(5, bytes(10))
    inbox.add_chunk(5, bytes(30))
    assert memory.held_bytes == 40
    assert inbox.finish(5, "").results[0].outcome == Outcome.BROKEN
    assert inbox.finish(4, "").results[0].outcome == Outcome.RETURNED


def test_link_that_ends_gives_all_back() -> None:
    memory = ResultMemory(1000)
    inbox = ResultInbox(account=memory.account(1))
    inbox.hold_back(JobResults("c", [result(1, stream=4, size=40)]))
    inbox.hold_back(JobNews("c", [PART]))
    inbox.add_chunk(4, bytes(40))
    inbox.add_chunk(5, b"abc")
    assert memory.held_bytes == 43
    inbox.close()
    assert memory.held_bytes == 0


def test_result_that_comes_twice_counts_once() -> None:
    """A node tells a result again when news of its job was acknowledged late."""
    memory = ResultMemory(1000)
    inbox = ResultInbox(account=memory.account(1))
    for stream in (4, 5):
        inbox.hold_back(JobResults("c", [result(1, stream=stream, size=3)]))
    inbox.add_chunk(5, b"abc")
    assert inbox.finish(5, "") == JobResults("c", [])
    inbox.add_chunk(4, b"abc")
    assert inbox.finish(4, "").results[0].body == b"abc"
    inbox.hold_back(JobResults("c", [result(1, stream=6, size=3)]))
    inbox.add_chunk(6, b"abc")
    assert inbox.finish(6, "").results[0].body == b"abc"


def test_large_bodies_need_streams() -> None:
    large = bytes(MOST_INLINE_BYTES + 1)
    with pytest.raises(RemoteProtocolError, match="and no stream"):
        ResultInbox().hold_back(JobResults("c", [result(1, body=large)]))
    with pytest.raises(RemoteProtocolError, match="and no stream"):
        ResultInbox().hold_back(JobNews("c", [News(1, 1, 1, PARTIAL, large)]))


def test_stream_is_announced_once() -> None:
    inbox = ResultInbox()
    inbox.hold_back(JobResults("c", [result(1, stream=4, size=3)]))
    for message in (
        JobResults("c", [result(2, stream=4, size=3)]),
        JobNews("c", [News(1, 1, 1, PARTIAL, b"", 4, 3)]),
    ):
        with pytest.raises(RemoteProtocolError, match="stream 4 is announced twice"):
            inbox.hold_back(message)


def test_streams_that_never_come_are_bounded() -> None:
    inbox = ResultInbox()
    with pytest.raises(RemoteProtocolError, match="more than 65536 streams"):
        for stream in range(1, MOST_ANNOUNCED + 2):
            inbox.hold_back(JobResults("c", [result(stream, stream=stream, size=3)]))


def test_small_intermediate_results_count_while_nobody_looks() -> None:
    memory = ResultMemory(10_000)
    inbox = ResultInbox(account=memory.account(1))
    kept, refused = [], 0
    for number in range(1, 20):
        news = News(1, 1, number, PARTIAL, b"x" * 100)
        (told,) = inbox.hold_back(JobNews("c", [news]))
        if isinstance(told, NewsEnd):
            assert told == NewsEnd("c", news, taken=False)
            refused += 1
        else:
            kept.append(told)
        del told
    assert (len(kept), refused) == (8, 11)
    kept.clear()
    (told,) = inbox.hold_back(JobNews("c", [News(1, 1, 20, PARTIAL, b"y")]))
    assert isinstance(told, JobNews)


def test_intermediate_results_that_nobody_awaits_are_told_without_body() -> None:
    """So they are acknowledged, and have no effect."""
    inbox = ResultInbox(is_awaited=nobody)
    assert inbox.hold_back(JobNews("c", [PART, News(1, 1, 2, PARTIAL, b"small")])) == [
        JobNews("c", [News(1, 1, 2, PARTIAL, b"")])
    ]
    inbox.add_chunk(5, b"abcdef")
    assert inbox.finish(5, "") == JobNews("c", [News(1, 1, 1, PARTIAL, b"")])


def test_file_is_opened_when_it_comes() -> None:
    """However many are announced, few are open."""
    opened: list[int] = []

    def land(computation: str, news: News) -> Ground:
        opened.append(news.number)
        return Ground()

    inbox = ResultInbox(land)
    for number in range(1, 100):
        inbox.hold_back(JobNews("c", [News(1, 1, number, FILE, b"", number, 3, f"file{number}")]))
    assert opened == []
    inbox.add_chunk(7, b"abc")
    assert opened == [7]
    inbox.close()
    assert opened == [7]


def test_what_comes_besides_a_stream_is_not_kept_beyond_the_ceiling() -> None:
    """A rogue node may put megabytes into each field of what it announces, and never send the stream."""
    inbox = ResultInbox()
    much = bytes(1_000_000)
    long = JobResult(2, 1, 0, 0, "x" * 1_000_000, 0.0, 0.0, much, stream=5, size=0)
    assert inbox.hold_back(JobResults("c", [long])) == []
    kept = inbox.finish(5, "disk error").results[0]
    assert kept.body == b""
    assert len(kept.detail) <= MOST_DETAIL_CHARS + 100
    (passed,) = inbox.hold_back(JobResults("c", [JobResult(3, 1, 2, 0, "y" * 1_000_000, 0.0, 0.0, b"")]))
    assert isinstance(passed, JobResults)
    assert len(passed.results[0].detail) <= MOST_DETAIL_CHARS + 4
    inbox.hold_back(JobNews("c", [News(1, 1, 1, PARTIAL, much, stream=6, size=0)]))
    end = inbox.finish(6, "disk error")
    assert isinstance(end, NewsEnd)
    assert end.news.body == b""


@pytest.mark.parametrize("field", [{"path": "x" * 5000}, {"path": "x", "digest": bytes(65)}])
def test_names_and_hashes_that_nobody_needs_are_the_peers_fault(field: dict[str, object]) -> None:
    news = News(1, 1, 1, FILE, b"", stream=5, size=3, **field)  # type: ignore[arg-type]
    with pytest.raises(RemoteProtocolError, match="far too long"):
        ResultInbox().hold_back(JobNews("c", [news]))
