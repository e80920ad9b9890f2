from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from dispy_node.runner.logs import NAME_CHARS, TEXT_CHARS, forward, pack


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    before, level = logging.Logger.callHandlers, logging.root.level
    yield
    logging.Logger.callHandlers = before  # type: ignore[method-assign]
    logging.root.setLevel(level)


def test_records_are_told_from_the_level_on_whatever_handlers_there_are() -> None:
    told: list[bytes] = []
    handlers = list(logging.root.handlers)
    logging.root.setLevel(logging.WARNING)
    forward(logging.INFO, told.append)
    assert logging.root.level == logging.INFO
    assert logging.root.handlers == handlers
    log = logging.getLogger("test.runner.logs")
    log.propagate = False
    log.info("one %d", 1)
    log.debug("not wanted")
    log.setLevel(logging.ERROR)
    log.warning("not let through")
    log.setLevel(logging.NOTSET)
    (entry,) = map(json.loads, told)
    assert entry[:3] == ["test.runner.logs", logging.INFO, "one 1"]
    assert entry[4] == ""


def test_true_leaves_levels_alone() -> None:
    logging.root.setLevel(logging.WARNING)
    forward(logging.NOTSET, lambda body: None)
    assert logging.root.level == logging.WARNING


def test_what_cannot_be_told_is_said_and_the_job_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    forward(logging.INFO, lambda body: None)
    log = logging.Logger("test.runner.logs")
    log.addHandler(logging.NullHandler())
    log.error("%d", "no number")
    assert "no number" in capsys.readouterr().err


def test_parts_are_cut_and_text_is_made_fit_to_send() -> None:
    try:
        raise ValueError("x" * TEXT_CHARS + "end")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("n" * 300, 40, "", 0, "\udc80" + "\0" * 2 * TEXT_CHARS, None, info)
    body = pack(record)
    name, level, message, created, text = json.loads(body)
    assert (len(name), level, len(message), created) == (NAME_CHARS, 40, TEXT_CHARS, record.created)
    assert message[0] == "?"
    assert text.startswith("... ")
    assert text.endswith("end")
    assert len(body) < 128 * 1024  # the runner takes no longer replies
