from __future__ import annotations

import json
import os

import pytest

from dispy_node.runner.settings import read_settings

LEAST = {"folder": "/f", "spool": "/s"}


def test_defaults() -> None:
    settings = read_settings(json.dumps(LEAST).encode())
    assert (settings.folder, settings.spool, settings.program, settings.reuse) == ("/f", "/s", [], False)
    assert (settings.inline_bytes, settings.output_bytes, settings.grace_s) == (65536, 10_000_000, (5.0, 2.0))
    assert (settings.live, settings.log_level) == (False, -1)


def test_everything() -> None:
    given = {
        **LEAST,
        "isolation": "worker",
        "inline_bytes": 1,
        "output_bytes": 2,
        "program": ["python", "ä.py"],
        "node": "knoten",
        "computation": "c",
        "cancel_grace_s": [1, 0.5],
        "live": True,
        "log_level": 20,
    }
    settings = read_settings(json.dumps(given).encode())
    assert settings.reuse
    assert (settings.inline_bytes, settings.output_bytes, settings.program) == (1, 2, ["python", "ä.py"])
    assert settings.grace_s == (1.0, 0.5)
    assert (settings.live, settings.log_level) == (True, 20)
    assert settings.place.startswith("node knoten (Python 3.")


def test_processes_are_forked_unless_that_is_not_wanted_or_cannot_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spawns(method: str) -> bool:
        return read_settings(json.dumps({**LEAST, "start_method": method}).encode()).spawn

    assert [spawns("fork"), spawns("spawn")] == [False, True]
    monkeypatch.delattr(os, "fork")
    assert spawns("fork")


@pytest.mark.parametrize(
    "payload", [b"[]", b"nonsense", b"{} x", json.dumps({**LEAST, "inline_bytes": "x"}).encode()]
)
def test_what_is_no_configuration(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"not|no"):
        read_settings(payload)


def test_folders_are_needed() -> None:
    with pytest.raises(KeyError, match="folder"):
        read_settings(b"{}")
