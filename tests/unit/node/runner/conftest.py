"""What tests of the runner share."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispy_node.runner.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings({"folder": str(tmp_path), "spool": str(tmp_path), "node": "there", "inline_bytes": 1000})
