"""For all tests here: a config folder of their own, and no secrets from outside or from the test before."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispy.logger import logger
from dispy_auth_secret import credentials, keys


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the config folder, which is not there yet."""
    folder = tmp_path / "config" / "dispy"
    monkeypatch.setenv("DISPY_CONFIG_DIR", str(folder))
    for name in ("DISPY_SECRET", "DISPY_SECRET_FD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(credentials, "_passed_secret", credentials._PassedSecret())
    return folder


@pytest.fixture(autouse=True)
def warnings(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Give what `dispy.logger` writes."""
    keys._warn_of_weak_passphrase.cache_clear()
    stream = io.StringIO()
    monkeypatch.setattr(logger, "_stream", stream)
    yield stream
    keys._warn_of_weak_passphrase.cache_clear()
