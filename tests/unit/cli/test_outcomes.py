"""How jobs that are over are written down."""

from __future__ import annotations

import io
import json
import signal
from typing import Any, BinaryIO

import pytest

from dispy.errors import JobAbandoned, JobBroken
from dispy.model import JobStatus
from dispy_cli.outcomes import JobEnd, JsonPrinter, TextPrinter, to_json, write

NO_SIGNAL = signal.NSIG + 100


class Recorder:
    """A screen and two streams; notes in which order what happens."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.out = Stream("out", self.events)
        self.err = Stream("err", self.events)

    def make_room(self) -> None:
        self.events.append("room")

    def written(self, data: bytes, stream: BinaryIO) -> None:
        assert isinstance(stream, Stream)
        self.events.append(("told", stream.label, data))


class Stream(io.BytesIO):
    def __init__(self, label: str, events: list[object]) -> None:
        super().__init__()
        self.label = label
        self.events = events

    def write(self, data: Any) -> int:
        self.events.append(("write", self.label, bytes(data)))
        return super().write(data)

    def flush(self) -> None:
        self.events.append(("flush", self.label))


@pytest.fixture
def screen() -> Recorder:
    """Give a fresh recorder."""
    return Recorder()


def make_end(**fields: Any) -> JobEnd:
    settings: dict[str, Any] = {
        "number": 3,
        "arguments": ["a b", "c"],
        "status": JobStatus.FINISHED,
        "exit_status": 0,
        "stdout": b"",
        "stderr": b"",
        "node": "node1",
        "address": "10.0.0.1",
        "started_at": 100.0,
        "ended_at": 100.25,
        "error": "",
    }
    return JobEnd(**(settings | fields))


def test_finished_job_is_taken_over(fake_job: Any) -> None:
    end = JobEnd.of(1, ["x"], fake_job(result=4, stdout=b"out", stderr=b"err"))
    assert end == make_end(
        number=1, arguments=["x"], exit_status=4, stdout=b"out", stderr=b"err", ended_at=100.5
    )
    assert not end.is_success
    assert JobEnd.of(1, [], fake_job()).is_success


def test_text_output_is_taken_as_bytes(fake_job: Any) -> None:
    end = JobEnd.of(1, [], fake_job(stdout="é", stderr=None))
    assert (end.stdout, end.stderr) == ("é".encode(), b"")


def test_abandoned_job_has_a_reason_and_no_exit_status(fake_job: Any) -> None:
    job = fake_job(
        status=JobStatus.ABANDONED,
        result=None,
        error=JobAbandoned("the node was lost"),
        exception="text",
        node=None,
        ip_addr=None,
        start_time=None,
        end_time=None,
    )
    end = JobEnd.of(2, ["x"], job)
    assert end.exit_status is None
    assert end.error == "the node was lost"
    assert (end.node, end.address, end.started_at, end.ended_at) == ("", "", None, None)
    assert end.describe() == "abandoned: the node was lost"
    assert not end.is_success


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"error": JobBroken("no such program"), "exception": "other"}, "no such program"),
        ({"error": JobBroken(""), "exception": "the text"}, "the text"),
        ({"error": None, "exception": None}, "the job is terminated"),
    ],
)
def test_reason_is_the_best_that_is_known(fake_job: Any, fields: dict[str, Any], reason: str) -> None:
    assert JobEnd.of(1, [], fake_job(status=JobStatus.TERMINATED, result=None, **fields)).error == reason


@pytest.mark.parametrize(
    ("exit_status", "text"),
    [
        (0, "exit status 0"),
        (2, "exit status 2"),
        (-11, "ended by SIGSEGV"),
        (-NO_SIGNAL, f"ended by signal {NO_SIGNAL}"),
    ],
)
def test_exit_status_is_described(exit_status: int, text: str) -> None:
    assert make_end(exit_status=exit_status).describe() == text


def test_reason_does_not_act_on_the_terminal() -> None:
    end = make_end(exit_status=None, error="\x1b[2Jgone\ndispy: all is well")
    assert end.describe().endswith(": ?[2Jgone\n    dispy: all is well")


def test_title_can_be_pasted_into_a_shell() -> None:
    assert make_end().title() == "job 3 ('a b' c)"
    assert make_end(arguments=[]).title() == "job 3 (no arguments)"


def test_text_printer_writes_what_the_job_wrote_and_nothing_else(screen: Recorder) -> None:
    TextPrinter(screen.out, screen.err, screen).print(make_end(stdout=b"\xffout", stderr=b"err"))
    assert screen.events == [
        "room",
        ("write", "out", b"\xffout"),
        ("flush", "out"),
        ("told", "out", b"\xffout"),
        "room",
        ("write", "err", b"err"),
        ("flush", "err"),
        ("told", "err", b"err"),
    ]


def test_silent_job_leaves_the_screen_alone(screen: Recorder) -> None:
    TextPrinter(screen.out, screen.err, screen).print(make_end())
    assert screen.events == []


@pytest.mark.parametrize(
    ("stderr", "told"),
    [
        (b"", b"dispy: job 3 ('a b' c): exit status 2\n"),
        (b"oh\n", b"oh\ndispy: job 3 ('a b' c): exit status 2\n"),
        (b"oh", b"oh\ndispy: job 3 ('a b' c): exit status 2\n"),
    ],
)
def test_failure_is_told_in_a_line_of_its_own(screen: Recorder, stderr: bytes, told: bytes) -> None:
    TextPrinter(screen.out, screen.err, screen).print(make_end(exit_status=2, stdout=b"x", stderr=stderr))
    assert screen.out.getvalue() == b"x"
    assert screen.err.getvalue() == told


def test_failure_is_not_told_when_it_is_not_wanted(screen: Recorder) -> None:
    printer = TextPrinter(screen.out, screen.err, screen, tell_failures=False)
    printer.print(make_end(exit_status=2, stderr=b"oh"))
    assert screen.err.getvalue() == b"oh"


def test_heading_says_what_where_and_how_long(screen: Recorder) -> None:
    printer = TextPrinter(screen.out, screen.err, screen, headings=True)
    printer.print(make_end(stdout=b"x\n"))
    printer.print(
        make_end(
            number=4,
            arguments=["caf\udce9"],
            status=JobStatus.ABANDONED,
            exit_status=None,
            node="",
            started_at=None,
            error="lost",
        )
    )
    assert screen.out.getvalue() == (
        b"--- job 3 ('a b' c): exit status 0 at node1, 0.25 s\nx\n--- job 4 ('caf\xe9'): abandoned: lost\n"
    )
    assert screen.err.getvalue() == b""


def test_json_tells_all(screen: Recorder) -> None:
    printer = JsonPrinter(screen.out, screen.err, screen)
    printer.print(make_end(stdout="é\n".encode(), stderr=b"\xff"))
    printer.print(make_end(number=4, status=JobStatus.CANCELLED, exit_status=None, error="stop", node=""))
    first, second = screen.out.getvalue().splitlines()
    assert json.loads(first) == {
        "job": 3,
        "arguments": ["a b", "c"],
        "status": "finished",
        "exit_status": 0,
        "stdout": "é\n",
        "stderr": "\ufffd",
        "stderr_base64": "/w==",
        "node": "node1",
        "address": "10.0.0.1",
        "start_time": 100.0,
        "end_time": 100.25,
        "error": None,
    }
    told = json.loads(second)
    assert (told["job"], told["status"], told["exit_status"]) == (4, "cancelled", None)
    assert (told["error"], told["node"]) == ("stop", None)
    assert screen.err.getvalue() == b"dispy: job 4 ('a b' c): cancelled: stop\n"


def test_json_keeps_arguments_that_are_not_utf8(screen: Recorder) -> None:
    JsonPrinter(screen.out, screen.err, screen).print(make_end(arguments=["caf\udce9"]))
    line = screen.out.getvalue()
    assert line.isascii()
    assert json.loads(line)["arguments"] == ["caf\udce9"]


def test_utf8_output_has_no_base64() -> None:
    assert not {"stdout_base64", "stderr_base64"} & to_json(make_end(stdout=b"a", stderr=b"b")).keys()


def test_nothing_is_written_for_no_data(screen: Recorder) -> None:
    write(screen.out, b"", screen)
    assert screen.events == []
