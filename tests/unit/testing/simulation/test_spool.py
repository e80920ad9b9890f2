from __future__ import annotations

import random

import pytest

from dispy_testing.simulation.spool import SimulatedSpool, SpoolSource


def test_written_file_can_be_read_and_is_gone_when_taken() -> None:
    spool = SimulatedSpool(random.Random(1), failures=0.0)
    writer = spool.open_spool(6)
    writer.write(b"abc")
    writer.write(b"def")
    assert writer.written_bytes == 6
    spooled = writer.finish()
    source = SpoolSource(spool, spooled)
    assert (source.read(4), source.read(4), source.read(4)) == (b"abcd", b"ef", b"")
    assert spool.take(spooled) == b"abcdef"
    assert not spool.files
    spool.remove_spooled(spooled)  # it may be gone already


def test_file_that_is_removed_before_it_is_read_is_an_error() -> None:
    spool = SimulatedSpool(random.Random(1), failures=0.0)
    spooled = spool.store(b"abc")
    source = SpoolSource(spool, spooled)
    spool.remove_spooled(spooled)
    with pytest.raises(OSError, match="no file"):
        source.read(1)


def test_disk_can_be_full() -> None:
    spool = SimulatedSpool(random.Random(1), failures=1.0)
    with pytest.raises(OSError, match="no space left"):
        spool.open_spool(1)
