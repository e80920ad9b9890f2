"""Words of a peer are fit to be shown."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from dispy.wire import messages as msg
from dispy.wire.words import NAME_CHARS, REASONS, clean_greeting, clean_reason

EVIL = "\x1b[2Jit ended\ndispy: all is well"


def test_every_reason_that_a_message_gives_is_cleaned() -> None:
    told = {
        kind: field
        for kind in get_args(msg.Message)
        for field in kind.__struct_fields__
        if field in ("reason", "problem", "detail")
    }
    assert told == REASONS


@pytest.mark.parametrize("kind", REASONS, ids=lambda kind: str(kind.__name__))
def test_reason_is_cleaned_and_nothing_else(kind: type[Any]) -> None:
    required = {field.name: 1 for field in msgspec.structs.fields(kind) if field.required}
    message = kind(**required | {REASONS[kind]: EVIL})
    cleaned = clean_reason(message)
    assert getattr(cleaned, REASONS[kind]) == "?[2Jit ended\n    dispy: all is well"
    assert msgspec.structs.replace(cleaned, **{REASONS[kind]: EVIL}) == message
    good = kind(**required | {REASONS[kind]: "it ended"})
    assert clean_reason(good) is good


def test_other_messages_are_as_they_came() -> None:
    message = msg.ComputationReady("\x1b")
    assert clean_reason(message) is message


def test_greeting_is_on_one_line() -> None:
    hello = msg.Hello(1, 1, "node", "id", 1, EVIL, EVIL, "3.11.0", EVIL, 1, 1.0, addresses=[EVIL, "10.0.0.1"])
    hello = msgspec.structs.replace(hello, resources={EVIL: 1, "n" * 10_000: 1, "gpu": 2})
    shown = "?[2Jit ended dispy: all is well"
    cleaned = clean_greeting(hello)
    assert (cleaned.name, cleaned.version, cleaned.platform) == (shown, shown, shown)
    assert cleaned.addresses == [shown, "10.0.0.1"]
    assert cleaned.resources == {"gpu": 2}
    assert cleaned.ident == "id"
    assert len(clean_greeting(msgspec.structs.replace(hello, name="n" * 10_000)).name) == NAME_CHARS
