"""What a check has found."""

from __future__ import annotations

import pytest

from dispy_cli.checks.finding import split_remedy


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("the key is bad; run: dispy key new", ("the key is bad", "run: dispy key new")),
        ("a; b; c", ("a", "b; c")),
        ("run chmod", ("run chmod", "do as it says")),
    ],
)
def test_message_is_taken_apart(text: str, parts: tuple[str, str]) -> None:
    assert split_remedy(ValueError(text)) == parts
