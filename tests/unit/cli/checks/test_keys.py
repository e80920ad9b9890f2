"""Which key is used, and where it is from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dispy.errors import CredentialsError
from dispy.interfaces import Credential
from dispy_cli.checks.finding import Level
from dispy_cli.checks.keys import check_trust


class FakeTrust:
    is_open = False
    is_explicit = False
    loads = 0

    def __init__(self, **fields: Any) -> None:
        self.error: CredentialsError | None = None
        vars(self).update(fields)

    def require(self) -> None:
        pass

    def load(self) -> list[list[Credential]]:
        self.loads += 1
        if self.error is not None:
            raise self.error
        return [
            [Credential("key 1234", b"", b"", b"", source="the key file")],
            [Credential("mary", b"", b"", b"")],
        ]


def check(trust: Any, key_file: Path | None, **environment: str) -> list[tuple[Level, str]]:
    return [(one.level, one.text) for one in check_trust(trust, key_file, environment)]


def test_keys_and_where_they_are_from(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    told = [(Level.OK, "key 1234, from the key file"), (Level.OK, "mary")]
    assert check(FakeTrust(), tmp_path / "key") == told


def test_no_key_is_made(tmp_path: Path) -> None:
    trust = FakeTrust()
    ((level, text),) = check(trust, tmp_path / "key")
    assert level is Level.WARN
    assert "there is no key in" in text
    assert trust.loads == 0


@pytest.mark.parametrize(
    ("fields", "environment"), [({"is_explicit": True}, {}), ({}, {"DISPY_SECRET": "x"})]
)
def test_key_file_is_not_needed(tmp_path: Path, fields: dict[str, Any], environment: dict[str, str]) -> None:
    assert check(FakeTrust(**fields), tmp_path / "key", **environment)[0][0] is Level.OK


def test_open_connections() -> None:
    ((level, _),) = check(FakeTrust(is_open=True), None)
    assert level is Level.WARN


def test_key_that_cannot_be_used() -> None:
    trust: Any = FakeTrust(error=CredentialsError("others can read it; run: chmod 600 key"))
    (found,) = check_trust(trust, None, {})
    assert (found.level, found.text, found.remedy) == (Level.FAIL, "others can read it", "run: chmod 600 key")
