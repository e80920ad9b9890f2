"""The demonstration, as somebody sees it who has a terminal, and who has none."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
import zlib
from pathlib import Path

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
TIMEOUT_S = 60
COMMAND = [sys.executable, str(DEMO), "--width", "40", "--samples", "1", "--depth", "60"]
SUMMARY = re.compile(
    r"^(\d+) jobs on 1 node with \d+ CPUs: [\d.]+ s for [\d.]+ s of work, speed-up [\d.]+$", re.M
)


def test_without_a_terminal_the_picture_is_plain_text(tmp_path: Path) -> None:
    picture = tmp_path / "set.png"
    done = subprocess.run(
        [*COMMAND, "--png", str(picture)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert SUMMARY.search(done.stdout), done.stdout
    assert "@@@@@" in done.stdout
    assert re.search(r"(\d+)/\1 tiles", done.stdout)
    assert_is_png(picture.read_bytes(), columns=40)


def test_in_a_terminal_tiles_are_drawn_and_the_cursor_comes_back(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        COMMAND,
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(theirs)
        printed = read_all(ours).replace("\r\n", "\n")
        process.kill()  # it has ended, unless the time was over
        _, told = process.communicate()
    assert SUMMARY.search(printed), f"{printed}\n{told}"
    assert printed.index("\x1b[?25l") < printed.index("▀") < printed.index("\x1b[?25h")


def read_all(descriptor: int) -> str:
    """Read from the master side of a terminal until the program has ended, or the time is over."""
    parts = []
    deadline = time.monotonic() + TIMEOUT_S
    with open(descriptor, "rb", buffering=0) as terminal:
        while select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                part = terminal.read(65536)
            except OSError:  # what Linux answers when nobody has the other side open any more
                break
            if not part:
                break
            parts.append(part)
    return b"".join(parts).decode(errors="replace")


def assert_is_png(data: bytes, columns: int) -> None:
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = (int.from_bytes(data[at : at + 4]) for at in (16, 20))
    start = data.index(b"IDAT")
    size = int.from_bytes(data[start - 4 : start])
    pixels = zlib.decompress(data[start + 4 : start + 4 + size])
    assert width == columns
    assert len(pixels) == height * (1 + 3 * width)
