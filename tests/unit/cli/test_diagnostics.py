"""Messages of dispy go to standard error."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from dispy.logger import logger
from dispy_cli.diagnostics import log_to_stderr


def write_to_both() -> None:
    for level in ("debug", "warning"):
        getattr(logger, level)("own %s", level)
        getattr(logging.getLogger("dispy"), level)("standard %s", level)


def test_both_loggers_write_to_stderr_only(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr()
    write_to_both()
    told = capsys.readouterr()
    assert told.out == ""
    own, standard = told.err.splitlines()
    assert own.endswith("dispy - own warning")
    assert standard == "dispy: standard warning"


def test_level_can_be_lowered_and_nothing_is_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr()
    log_to_stderr(logging.DEBUG)
    write_to_both()
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_stderr_is_looked_up_at_each_message(monkeypatch: pytest.MonkeyPatch) -> None:
    log_to_stderr()
    later = io.StringIO()
    monkeypatch.setattr(sys, "stderr", later)
    write_to_both()
    assert "own warning" in later.getvalue()
    assert "standard warning" in later.getvalue()
