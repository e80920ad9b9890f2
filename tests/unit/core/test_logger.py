from __future__ import annotations

import io
import re
from typing import Any

import pytest

from dispy.errors import UsageError
from dispy.logger import Logger, logger

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{3})? (\w+) - (.*)\n", re.DOTALL)


def text_of(line: str) -> str:
    found = LINE.fullmatch(line)
    assert found, line
    return found[3]


@pytest.fixture
def log() -> Logger:
    return Logger("test", io.StringIO(), Logger.DEBUG)


def written(log: Logger) -> str:
    assert isinstance(log.stream, io.StringIO)
    return log.stream.getvalue()


def test_the_one_logger() -> None:
    assert (logger.name, logger.level) == ("dispy", logger.INFO)
    levels = [
        logger.DEBUG,
        logger.INFO,
        logger.WARNING,
        logger.WARN,
        logger.ERROR,
        logger.CRITICAL,
        logger.FATAL,
    ]
    assert levels == [10, 20, 30, 30, 40, 50, 50]


def test_lines_go_to_whatever_standard_output_is(capsys: pytest.CaptureFixture[str]) -> None:
    logger.info("%d of %s", 3, "five")
    assert text_of(capsys.readouterr().out) == "3 of five"


@pytest.mark.parametrize(
    ("level", "names"),
    [
        (Logger.DEBUG, ["debug", "info", "warning", "warn", "error", "critical", "fatal", "exception"]),
        (Logger.WARNING, ["warning", "warn", "error", "critical", "fatal", "exception"]),
        (Logger.CRITICAL, ["critical", "fatal"]),
        ("error", ["error", "critical", "fatal", "exception"]),
    ],
)
def test_levels(log: Logger, level: Any, names: list[str]) -> None:
    log.setLevel(level)
    for name in ("debug", "info", "warning", "warn", "error", "critical", "fatal", "exception"):
        getattr(log, name)(f"<{name}>")
    assert re.findall("<(.*?)>", written(log)) == names


def test_log_writes_in_any_case_unless_a_level_is_given(log: Logger) -> None:
    log.setLevel(log.CRITICAL)
    log.log("a %s", "b")
    log.log(log.INFO, "not %s", "this")
    log.log(log.CRITICAL, "c %s", "d")
    log.log(5)
    assert [text_of(line) for line in written(log).splitlines(keepends=True)] == ["a b", "c d", "5"]


def test_milliseconds(log: Logger) -> None:
    log.info("without")
    log.show_ms(True)
    log.info("with")
    lines = [LINE.fullmatch(line) for line in written(log).splitlines(keepends=True)]
    assert [bool(found and found[1]) for found in lines] == [False, True]


def test_an_exception_shows_its_traceback(log: Logger) -> None:
    try:
        raise KeyError("k")
    except KeyError:
        log.exception("failed %s", "here")
    text = text_of(written(log))
    assert text.startswith("failed here\nTraceback")
    assert text.endswith("KeyError: 'k'")


def test_placeholders_that_do_not_fit_do_not_lose_the_message(log: Logger) -> None:
    log.info("%d jobs", "many")
    assert text_of(written(log)) == "%d jobs ('many',)"


def test_percent_signs_need_no_arguments(log: Logger) -> None:
    log.info("100 %")
    assert text_of(written(log)) == "100 %"


def test_a_closed_stream_stops_nothing(log: Logger) -> None:
    stream = log.stream
    assert stream is not None
    stream.close()
    log.error("lost")
    log.stream = io.StringIO()
    log.error("seen")
    assert text_of(written(log)) == "seen"


def test_a_program_without_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    logger.error("nobody sees it")
    assert logger.stream is None


@pytest.mark.parametrize("level", ["loud", None, 2.5, "name"])
def test_unknown_levels(log: Logger, level: Any) -> None:
    with pytest.raises(UsageError, match="log level .* is not known"):
        log.setLevel(level)
