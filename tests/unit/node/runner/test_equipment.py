"""Variables of single jobs."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy_node.runner.equipment import equip, pack_variables, unequip

NAMES = st.sampled_from(["DISPY_TEST_A", "DISPY_TEST_B"])
VALUES = st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=9)


@given(st.dictionaries(NAMES, VALUES), st.dictionaries(NAMES, VALUES))
def test_variables_are_set_and_taken_back(before: dict[str, str], given: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DISPY_TEST_A", "DISPY_TEST_B"):
            patch.delenv(name, raising=False)
        os.environ.update(before)
        kept = dict(os.environ)
        saved = equip(pack_variables(given))
        assert dict(os.environ) == kept | given
        unequip(saved)
        assert dict(os.environ) == kept
        for name in before:
            del os.environ[name]


def test_what_a_job_has_removed_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPY_TEST_A", "1")
    saved = equip(pack_variables({"DISPY_TEST_A": "2"}))
    del os.environ["DISPY_TEST_A"]
    unequip(saved)
    assert os.environ["DISPY_TEST_A"] == "1"
