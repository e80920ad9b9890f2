"""Lines about files that take long to send."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from dispy.model import FilePart
from dispy.runtime import progress
from dispy.runtime.progress import AGAIN_S, FIRST_S, ToldSource

SIZE = 100_000_000


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    log = SimpleNamespace(info=lambda text, *values: told.append(text % values))
    monkeypatch.setattr(progress, "logger", log)
    return told


class Sending:
    """A file whose pieces take as long as a test says."""

    def __init__(self, path: Path, skip: int = 0) -> None:
        with open(path, "wb") as file:
            file.truncate(SIZE)
        status = path.stat()
        self.now = 0.0
        self.source = ToldSource(FilePart(str(path), SIZE, status.st_mtime, skip), "n1", lambda: self.now)

    def read(self, size: int, seconds: float) -> None:
        self.now += seconds
        assert len(self.source.read(size)) == size


def test_what_is_sent_soon_is_not_told(tmp_path: Path, lines: list[str]) -> None:
    sending = Sending(tmp_path / "big.bin")
    sending.read(1_000_000, 1000.0)  # it has waited for its turn
    sending.read(SIZE - 1_000_000, FIRST_S - 0.1)
    sending.source.close()
    assert not lines


@pytest.mark.parametrize(("skip", "percents"), [(0, ["10", "30"]), (50_000_000, ["60", "80"])])
def test_what_takes_long_is_told_now_and_then(
    tmp_path: Path, lines: list[str], skip: int, percents: list[str]
) -> None:
    sending = Sending(tmp_path / "big.bin", skip)
    for size, seconds in (
        (4_000_000, 0.0),
        (6_000_000, FIRST_S),
        (10_000_000, AGAIN_S / 2),
        (10_000_000, AGAIN_S / 2),
    ):
        sending.read(size, seconds)
    sending.source.close()
    assert lines == [
        f"sending big.bin to node n1: {percents[0]} %, 2 MB/s",
        f"sending big.bin to node n1: {percents[1]} %, 3 MB/s",
    ]
