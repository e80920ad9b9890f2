"""What others can see of a node's process. tests/security/test_jobs.py has jobs that try."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from dispy_node import secrecy
from dispy_node.secrecy import close_memory, take_variable

RunScript = Callable[..., Any]

needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


@needs_linux
def test_process_is_closed_and_what_it_starts_is_not(run_script: RunScript) -> None:
    told = run_script("""
        import ctypes, subprocess, sys
        from dispy_node.secrecy import close_memory
        look = "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
        before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
        close_memory()
        child = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
        told = [before, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), int(child.stdout)]
    """)
    assert told == [1, 0, 1]


@needs_linux
@pytest.mark.parametrize("secret", ["a passphrase", "umläut"], ids=["ascii", "other"])
def test_variable_is_taken_out_where_the_system_shows_it(
    run_script: RunScript, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("DISPY_SECRET", secret)
    monkeypatch.setenv("DISPY_SECRET_ROUND", "kept")
    told = run_script("""
        from dispy_node.secrecy import take_variable
        def shown():
            return os.fsdecode(open("/proc/self/environ", "rb").read())
        secret = os.environ["DISPY_SECRET"]
        told = [secret in shown(), take_variable() == secret, secret in shown(), "DISPY_SECRET" in os.environ]
        told += [take_variable(), "DISPY_SECRET_ROUND=kept" in shown(), os.environ["DISPY_SECRET_ROUND"]]
    """)
    assert told == [True, True, False, False, "", True, "kept"]


def test_variable_that_was_set_later_is_taken_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPY_SECRET", "hush")
    assert take_variable() == "hush"
    assert "DISPY_SECRET" not in os.environ


def test_failure_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class Library:
        def prctl(self, *arguments: int) -> int:
            assert arguments == (4, 0, 0, 0, 0)
            return -1

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(secrecy.ctypes, "CDLL", lambda *names, **options: Library())
    close_memory()
    assert "can read its memory, since prctl has failed" in caplog.text


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", None)
    monkeypatch.setenv("DISPY_SECRET", "hush")
    close_memory()
    assert take_variable() == "hush"
