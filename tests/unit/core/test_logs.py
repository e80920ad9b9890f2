from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from dispy import logs
from dispy.engine.effects import TellLog
from dispy.errors import UsageError
from dispy.logs import OTHERS, LogCalls, checked_level


def log(body: bytes | None = None, *, name: str = "test.logs", missed: int = 0) -> TellLog:
    job: Any = SimpleNamespace(id=7, handle="the job")
    node: Any = SimpleNamespace(name="node1")
    entry = json.dumps([name, logging.ERROR, "100 %d", 1234.5, "Traceback: x"]).encode()
    return TellLog(job, node, entry if body is None else body, missed)


def test_levels() -> None:
    assert [checked_level(value) for value in (False, True, logging.INFO)] == [-1, 0, logging.INFO]
    for value in (-5, "INFO", None):
        with pytest.raises(UsageError, match="logging.INFO"):
            checked_level(value)  # type: ignore[arg-type]


def test_records_are_handled_by_loggers_of_their_names(caplog: pytest.LogCaptureFixture) -> None:
    calls = LogCalls(lambda function, *args: function(*args))
    calls.take(log())
    (record,) = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == ("test.logs", "ERROR", "100 %d")
    assert (record.created, record.msecs, record.exc_text) == (1234.5, 500.0, "Traceback: x")
    assert (record.dispy_job, record.dispy_node) == ("the job", "node1")  # type: ignore[attr-defined]
    assert "Traceback: x" in caplog.text


@pytest.mark.parametrize("body", [b"", b"[1, 2]", b'["a", "b", "c", 1.0, ""]', b"\x80"])
def test_rubbish_is_said_to_be_rubbish(capsys: pytest.CaptureFixture[str], body: bytes) -> None:
    LogCalls(lambda function, *args: function(*args)).take(log(body))
    assert "what job 7 has logged cannot be read" in capsys.readouterr().out


def test_slow_handlers_cost_records_not_memory(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "WAITING", 2)
    waiting: list[Any] = []
    calls = LogCalls(lambda function, *args: waiting.append(lambda: function(*args)))
    for _ in range(5):
        calls.take(log(missed=1))
    assert len(waiting) == 2
    for call in waiting:
        call()
    capsys.readouterr()
    calls.take(log())
    waiting[-1]()
    assert "6 records" in capsys.readouterr().out  # three, and what nodes had dropped before them


def test_a_node_cannot_make_loggers_without_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "NAMES", 1)
    calls = LogCalls(lambda function, *args: function(*args))
    for name in ("test.first", "test.never_made", "test.first"):
        calls.take(log(name=name))
    assert len(caplog.records) == 3
    assert "test.never_made" not in logging.root.manager.loggerDict
    assert OTHERS in logging.root.manager.loggerDict
