"""What the machine offers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from dispy.errors import UsageError
from dispy_node import avail


def test_measures_are_plausible(tmp_path: Path) -> None:
    measured = avail.measure_avail(tmp_path)
    assert 0 <= measured.cpu_percent <= 100
    assert 0 <= measured.swap_percent <= 100
    assert measured.memory_bytes > 0
    assert measured.disk_bytes >= 0


@pytest.mark.parametrize(("wanted", "cpus"), [(0, 8), (1, 1), (8, 8), (-1, 7), (-7, 1)])
def test_number_of_slots(monkeypatch: pytest.MonkeyPatch, wanted: int, cpus: int) -> None:
    monkeypatch.setattr(avail, "count_cpus", lambda: 8)
    assert avail.choose_cpus(wanted) == cpus


@pytest.mark.parametrize("wanted", [9, -8, -100])
def test_impossible_numbers_are_refused(monkeypatch: pytest.MonkeyPatch, wanted: int) -> None:
    monkeypatch.setattr(avail, "count_cpus", lambda: 8)
    with pytest.raises(UsageError, match="which has 8"):
        avail.choose_cpus(wanted)


def test_this_process_has_processors() -> None:
    assert avail.count_cpus() >= 1


@pytest.mark.parametrize(("gib", "mib"), [(0.25, 128), (2, 256), (64, 512)])
def test_memory_for_clients_is_a_part_of_what_there_is(
    monkeypatch: pytest.MonkeyPatch, gib: float, mib: int
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=int(gib * 1024**3)))
    assert avail.choose_memory() == mib * 1024**2
