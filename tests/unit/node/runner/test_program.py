from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.packing.arguments import pack_program_arguments
from dispy_node.runner.program import decode_arguments

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.lists(TEXTS))
def test_arguments_are_as_the_client_packs_them(given_arguments: list[str]) -> None:
    assert decode_arguments(pack_program_arguments(tuple(given_arguments), {})) == given_arguments


@pytest.mark.parametrize("body", [b"", b"\1\0\0", b"\1\0\0\0", b"\1\0\0\0x", b"\2\0\0\0x\0", b"\0\0\0\0x"])
def test_arguments_that_are_cut_off(body: bytes) -> None:
    with pytest.raises(ValueError, match="cut off"):
        decode_arguments(body)
