"""What guesses cost somebody who wants to know a passphrase."""

from __future__ import annotations

import hashlib
from time import process_time
from typing import Any

import pytest

from dispy_auth_secret import keys
from dispy_auth_secret.keys import key_of_secret, make_key

GUESS_S, GUESS_BYTES = 0.01, 16 * 1024 * 1024
"""What one guess takes at least: time of a processor, and memory, which machines made for guessing have little of."""


def test_a_guess_takes_time_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    scrypt = hashlib.scrypt

    def watched(*args: Any, **options: Any) -> bytes:
        seen.append(options)
        return scrypt(*args, **options)

    monkeypatch.setattr(keys.hashlib, "scrypt", watched)
    began = process_time()
    key_of_secret("a passphrase that nobody has had stretched here")
    assert process_time() - began > GUESS_S
    ((options),) = seen
    assert 128 * options["n"] * options["r"] >= GUESS_BYTES


def test_without_a_passphrase_there_is_nothing_to_guess() -> None:
    drawn = {make_key().data for _ in range(100)}
    assert len(drawn) == 100
    assert {len(key) for key in drawn} == {32}
    # Each of the 256 bits is set in some and not in others: by chance that fails once in 2^90 times.
    together = [int.from_bytes(key, "big") for key in drawn]
    always, ever = together[0], 0
    for key in together:
        always, ever = always & key, ever | key
    assert (always, ever) == (0, 2**256 - 1)


def test_weak_ones_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    keys._warn_of_weak_passphrase.cache_clear()
    monkeypatch.setattr(keys.logger, "warning", told.append)
    key_of_secret("tiny")
    (line,) = told
    assert "the secret can be guessed" in line
    assert "tiny" not in line
