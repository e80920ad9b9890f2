"""The log of daemons."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from dispy_node.logs import set_up_logging


@pytest.fixture(autouse=True)
def restored_logger() -> Iterator[None]:
    logger = logging.getLogger("dispy")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(level="info", json_lines=True)
    log = logging.getLogger("dispy.node")
    log.info("node %s\nis up", "a")
    log.debug("not shown")
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("it failed")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["logger"], first["text"]) == ("info", "dispy.node", "node a\nis up")
    assert "ValueError: broken" in second["exception"]


def test_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging(level="debug", json_lines=False)
    logging.getLogger("dispy.node").debug("shown")
    line = capsys.readouterr().err
    assert "DEBUG" in line
    assert line.endswith("shown\n")
