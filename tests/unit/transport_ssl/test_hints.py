from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy_transport_ssl.hints import NONCE_BYTES, is_hint_for, make_hint

KEY, NONCE = b"k" * 32, bytes(range(NONCE_BYTES))


def test_form_is_as_documented() -> None:
    tag = hmac.new(KEY, b"dispy sni" + NONCE, hashlib.sha256).hexdigest()[:32]
    assert make_hint(KEY, NONCE) == f"0001020304050607.{tag}.dispy"


@given(
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=8, max_size=8),
)
def test_only_who_has_the_key_knows_the_hint(key: bytes, other: bytes, nonce: bytes) -> None:
    hint = make_hint(key, nonce)
    assert is_hint_for(hint, key)
    assert is_hint_for(hint, other) == (key == other)


def test_another_nonce_needs_another_tag() -> None:
    tag = make_hint(KEY, NONCE).split(".")[1]
    assert not is_hint_for(f"{'0' * 16}.{tag}.dispy", KEY)


@pytest.mark.parametrize(
    "change",
    [str.upper, lambda hint: hint + ".", lambda hint: "x" + hint, lambda hint: hint[:-6], lambda _: ""],
)
def test_other_forms_are_no_hints(change) -> None:
    assert not is_hint_for(change(make_hint(KEY, NONCE)), KEY)


@given(st.text())
def test_any_text_is_taken(name: str) -> None:
    assert not is_hint_for(name, KEY)
