"""Who an ident belongs to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dispy.wire.owner import Owner, make_proof

SECRET = bytes(32)

owners = st.builds(
    Owner, st.sampled_from(["", "mary", "fred"]), st.sampled_from([b"", b"1" * 32, b"2" * 32]), st.booleans()
)


def test_proof_is_of_one_owner_for_one_audience() -> None:
    proofs = {make_proof(secret, audience) for secret in (SECRET, b"1" * 32) for audience in ("", "a", "b")}
    assert len(proofs) == 6
    assert make_proof(SECRET, "a") == make_proof(SECRET, "a")
    assert SECRET not in proofs


@given(owners, owners)
def test_all_that_was_shown_must_be_shown_again(first: Owner, second: Owner) -> None:
    assert first.is_same(second) is (first == second)


def test_proofs_are_not_shown_to_people() -> None:
    assert "secret" not in repr(Owner("mary", b"secret"))
