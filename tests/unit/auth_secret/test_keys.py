"""Texts and fingerprints of keys, and passphrases."""

from __future__ import annotations

import io
import os
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.errors import CredentialsError
from dispy.logger import logger
from dispy_auth_secret import keys
from dispy_auth_secret.keys import Key, is_key_text, key_of_secret, make_key, parse_key, subkey

KEY = Key(bytes(range(32)))
TEXT = "dispy1-aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dyp3o7mm7m"
FINGERPRINT = "9fdb-8146-6f13-4ac6"
PASSPHRASE = "correct horse battery staple"

any_key = st.binary(min_size=32, max_size=32).map(Key)
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def test_text_and_fingerprint_never_change() -> None:
    assert (KEY.text, KEY.fingerprint) == (TEXT, FINGERPRINT)


def test_subkey_is_that_of_the_standard() -> None:
    # RFC 5869, test case 3: no salt, no purpose; its first 32 bytes.
    told = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    assert subkey(b"\x0b" * 22, "").hex() == told
    assert subkey(b"\x0b" * 22, "another") != subkey(b"\x0b" * 22, "")


def test_new_keys_differ() -> None:
    made = {make_key() for _ in range(10)}
    assert len(made) == 10
    assert all(len(key.data) == 32 for key in made)


@given(any_key)
def test_text_stands_for_the_key(key: Key) -> None:
    assert parse_key(key.text) == key
    assert parse_key(f"\t {key.text.upper()} \r\n") == key


@given(any_key, st.data())
def test_every_wrong_character_is_told(key: Key, data: st.DataObject) -> None:
    place = data.draw(st.integers(len("dispy1-"), len(key.text) - 1))
    other = data.draw(st.sampled_from(ALPHABET + "0189-=. é").filter(lambda char: char != key.text[place]))
    with pytest.raises(CredentialsError, match="not copied exactly"):
        parse_key(f"{key.text[:place]}{other}{key.text[place + 1 :]}")


@given(any_key, st.data())
def test_missing_added_and_swapped_characters_are_told(key: Key, data: st.DataObject) -> None:
    text = key.text
    place = data.draw(st.integers(len("dispy1-"), len(text) - 2))
    first, second = text[place : place + 2]
    wrong = [text[:place] + text[place + 1 :], text[:place] + "a" + text[place:]]
    if first != second:
        wrong.append(text[:place] + second + first + text[place + 2 :])
    for one in wrong:
        with pytest.raises(CredentialsError, match="not copied exactly.*: dispy key show$"):
            parse_key(one)


@pytest.mark.parametrize("text", ["", "super", TEXT[1:], "dispy2-" + TEXT[7:]])
def test_what_is_no_key_is_told(text: str) -> None:
    assert not is_key_text(text)
    with pytest.raises(CredentialsError, match="this is no key, since it does not start with dispy1-; copy"):
        parse_key(text)


def test_key_does_not_show_itself() -> None:
    assert repr(KEY) == str(KEY) == f"<Key {FINGERPRINT}>"
    assert f"{[KEY]}" == f"[<Key {FINGERPRINT}>]"


def test_message_about_a_wrong_key_does_not_show_it() -> None:
    wrong = TEXT[:-1] + "a"
    with pytest.raises(CredentialsError) as caught:
        key_of_secret(wrong)
    told = "".join(traceback.format_exception(caught.value))
    assert TEXT[7:40] not in told.lower()
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_secret_that_is_a_key_is_taken_as_it_is(warnings: io.StringIO) -> None:
    assert key_of_secret(f"{TEXT}\n") == KEY
    assert warnings.getvalue() == ""


def test_passphrase_gives_the_same_key_everywhere() -> None:
    assert key_of_secret(PASSPHRASE) == parse_key(
        "dispy1-6s32zdlqn6cnpcpdp2h7wc7ce6w6wbqgxbztd2rrp2nfa7lx5dcnvra2ni"
    )
    assert key_of_secret(PASSPHRASE) != key_of_secret(PASSPHRASE + " ")


def test_passphrase_is_stretched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = key_of_secret(PASSPHRASE)
    monkeypatch.setattr(keys.hashlib, "scrypt", lambda *args, **options: pytest.fail("it is known already"))
    assert key_of_secret(PASSPHRASE) is first


def test_accents_may_be_composed_or_not() -> None:
    assert key_of_secret("caf\u00e9 au lait") == key_of_secret("cafe\u0301 au lait")


def test_bytes_that_are_no_text_are_a_passphrase_too() -> None:
    assert key_of_secret(os.fsdecode(b"\xff\xfe passphrase")) != key_of_secret(
        os.fsdecode(b"\xff\xfd passphrase")
    )


def test_of_weak_passphrases_the_user_is_warned_once(warnings: io.StringIO) -> None:
    for secret in ("super", "12345671", "abababababab"):
        key_of_secret(secret)
    (line,) = warnings.getvalue().splitlines()
    assert line.endswith("make a strong one with: dispy key new")
    assert "super" not in line


@pytest.mark.parametrize("secret", ["abcab", "abcdabcd"])
def test_short_and_monotonous_passphrases_are_weak(secret: str, warnings: io.StringIO) -> None:
    key_of_secret(secret)
    assert "can be guessed" in warnings.getvalue()


def test_good_passphrase_is_no_reason_to_warn(warnings: io.StringIO) -> None:
    key_of_secret("abcdeabc")
    assert warnings.getvalue() == ""
    logger.warning("it is heard")
    assert warnings.getvalue().endswith("it is heard\n")
