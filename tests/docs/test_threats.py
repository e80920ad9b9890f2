"""Every row of the threat table names tests, and these exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    re.split(r"(?<!\\)\|", line)[1:-1]
    for line in (ROOT / "docs/security.md").read_text().splitlines()
    if re.match(r"\| .* \| [A-Z, ]+ \|", line)
]


def test_table_is_read() -> None:
    assert len(ROWS) > 30


@pytest.mark.parametrize("row", ROWS, ids=[row[0].strip()[:60] for row in ROWS])
def test_tests_of_a_threat_exist(row: list[str]) -> None:
    cited = re.findall(r"`([\w/.]+)`", row[3])
    assert cited
    for name in cited:
        path = ROOT / name if name.startswith("tests/") else ROOT / "tests/security" / name
        assert path.exists(), f"{name} is not there"
