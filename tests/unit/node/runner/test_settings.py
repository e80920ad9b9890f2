"""What the daemon tells the runner once."""

from __future__ import annotations

import json
import platform
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy_node.runner.settings import Settings, read_settings

seconds = st.floats(0, 1e6)
given_settings = st.fixed_dictionaries(
    {"folder": st.text(), "spool": st.text()},
    optional={
        "isolation": st.sampled_from(["process", "worker"]),
        "inline_bytes": st.integers(0, 2**40),
        "output_bytes": st.integers(0, 2**40),
        "program": st.lists(st.text()),
        "node": st.text(),
        "computation": st.text(),
        "cancel_grace_s": st.tuples(seconds, seconds).map(list),
    },
)
DEFAULTS: dict[str, Any] = {
    "isolation": "process",
    "inline_bytes": 64 * 1024,
    "output_bytes": 10_000_000,
    "program": [],
    "node": "",
    "computation": "",
    "cancel_grace_s": [5.0, 2.0],
}


def told(settings: Settings) -> dict[str, Any]:
    """Say what was understood, in the words of the daemon."""
    names = ("folder", "spool", "inline_bytes", "output_bytes", "program", "node", "computation")
    return {
        **{name: getattr(settings, name) for name in names},
        "isolation": "worker" if settings.reuse else "process",
        "cancel_grace_s": list(settings.grace_s),
    }


@given(given_settings)
def test_settings_come_out_as_they_went_in(given_ones: dict[str, Any]) -> None:
    assert told(read_settings(json.dumps(given_ones).encode())) == DEFAULTS | given_ones


def test_place_names_node_and_python() -> None:
    settings = Settings({"folder": "f", "spool": "s", "node": "pc7"})
    assert settings.place == f"node pc7 (Python {platform.python_version().rstrip('+')})"


@pytest.mark.parametrize("missing", ["folder", "spool"])
def test_folders_must_be_given(missing: str) -> None:
    given_ones = {"folder": "f", "spool": "s"}
    del given_ones[missing]
    with pytest.raises(KeyError, match=missing):
        read_settings(json.dumps(given_ones).encode())


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"{", b'"text"', b"{} {}"])
def test_what_is_no_object_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="not"):
        read_settings(payload)


@pytest.mark.parametrize("name", ["inline_bytes", "output_bytes"])
@pytest.mark.parametrize("value", ["1000", 1.5, None])
def test_numbers_must_be_whole(name: str, value: object) -> None:
    with pytest.raises(ValueError, match="not a number of bytes"):
        Settings({"folder": "f", "spool": "s", name: value})


def test_unknown_settings_of_later_daemons_do_no_harm() -> None:
    assert Settings({"folder": "f", "spool": "s", "colour": "red"}).folder == "f"
