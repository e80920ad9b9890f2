"""Failures in a row."""

from __future__ import annotations

from dispy_node.runner.trouble import PATIENCE_S, RETRY_S, Trouble


def test_failures_in_a_row_become_lasting() -> None:
    trouble = Trouble()
    assert trouble.retry_at == 0.0
    assert not trouble.is_lasting(1e9)
    assert trouble.note(100.0)
    assert trouble.retry_at == 100.0 + RETRY_S
    assert not trouble.note(100.0 + PATIENCE_S)
    assert trouble.retry_at == 100.0 + PATIENCE_S + RETRY_S
    assert not trouble.is_lasting(99.0 + PATIENCE_S)
    assert trouble.is_lasting(100.0 + PATIENCE_S)


def test_after_a_success_patience_begins_anew() -> None:
    trouble = Trouble()
    trouble.note(100.0)
    trouble.end()
    assert not trouble.is_lasting(200.0)
    assert trouble.note(200.0), "the first of the next row"
    assert not trouble.is_lasting(200.0)
