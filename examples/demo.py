"""Draw the Mandelbrot set in parallel, on the CPUs of this machine.

    python3 dev demo                          in a checkout, with nothing installed
    python examples/demo.py [OPTION...]       where dispy is installed

The picture is cut into tiles; each tile is a job. In a terminal the tiles appear as they arrive, with a line of
progress below; elsewhere the finished picture is printed in plain characters. Nothing but ``import dispy`` makes
this program parallel: with ``--nodes`` it uses other machines that run ``dispy node``.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import struct
import sys
import threading
import time
import zlib
from pathlib import Path

import dispy

CENTRE = (-0.65, 0.0)
WIDTH = 3.7
DEPTH = 300
SHADES = " .:-=+*#%"


def compute(
    index: int, left: float, top: float, columns: int, rows: int, step: float, depth: int, samples: int
) -> tuple[int, list[list[float]]]:
    """Return (index, for each row of the tile the mean escape time of each pixel; 0.0 is inside the set).

    This function runs in a process of its own on some node, so it brings all it needs.
    """
    import math

    offsets = [(number + 0.5) / samples for number in range(samples)]
    image = []
    for row in range(rows):
        line = []
        for column in range(columns):
            total, escaped = 0.0, 0
            for offset_y in offsets:
                y0 = top + (row + offset_y) * step
                for offset_x in offsets:
                    point = complex(left + (column + offset_x) * step, y0)
                    z = 0j
                    for count in range(depth):
                        z = z * z + point
                        if z.real * z.real + z.imag * z.imag > 256.0:
                            escaped += 1
                            total += count + 1 - math.log2(math.log(abs(z)))
                            break
            line.append(total / escaped if escaped * 2 > samples**2 else 0.0)
        image.append(line)
    return index, image


class Picture:
    """What has arrived so far. All pixels are None at first."""

    def __init__(self, columns: int, rows: int, tile_columns: int, tile_rows: int) -> None:
        self.columns = columns
        self.rows = rows
        self.pixels: list[list[float | None]] = [[None] * columns for _ in range(rows)]
        self.tiles = [
            (column, row, min(tile_columns, columns - column), min(tile_rows, rows - row))
            for row in range(0, rows, tile_rows)
            for column in range(0, columns, tile_columns)
        ]

    def put(self, index: int, image: list[list[float]]) -> None:
        """Put tile number *index* in its place."""
        column, row, width, _ = self.tiles[index]
        for offset, line in enumerate(image):
            self.pixels[row + offset][column : column + width] = line

    def ansi_line(self, row: int, first: int, last: int) -> str:
        """Return one line of the terminal, columns *first* to *last*: two rows of pixels in half blocks."""
        cells = []
        for upper, lower in zip(self.pixels[row][first:last], self.pixels[row + 1][first:last], strict=True):
            (r1, g1, b1), (r2, g2, b2) = colour(upper), colour(lower)
            cells.append(f"\x1b[38;2;{r1};{g1};{b1}m\x1b[48;2;{r2};{g2};{b2}m▀")
        return "".join(cells) + "\x1b[0m"

    def plain_lines(self) -> list[str]:
        """Return the picture in ASCII, one line for two rows of pixels."""
        return [
            "".join(shade(value) for value in self.pixels[row]).rstrip() for row in range(0, self.rows, 2)
        ]

    def write_png(self, path: Path) -> None:
        """Write the picture as a PNG file, eight bits a channel."""
        raw = b"".join(
            b"\0" + bytes(part for value in line for part in colour(value)) for line in self.pixels
        )
        header = struct.pack(">IIBBBBB", self.columns, self.rows, 8, 2, 0, 0, 0)
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + png_chunk(b"IHDR", header)
            + png_chunk(b"IDAT", zlib.compress(raw, 9))
            + png_chunk(b"IEND", b"")
        )


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def colour(value: float | None) -> tuple[int, int, int]:
    """Return red, green and blue for an escape time: night blue far away, then light blue, white, amber."""
    if not value:
        return (0, 0, 0) if value is not None else (40, 40, 40)
    stops = [(0, 7, 60), (20, 70, 150), (110, 180, 240), (250, 255, 250), (255, 170, 0), (120, 30, 0)]
    place = nearness(value) * (len(stops) - 1)
    lower, share = int(place), place % 1.0
    red, green, blue = (int(a + (b - a) * share) for a, b in zip(stops[lower], stops[lower + 1], strict=True))
    return red, green, blue


def shade(value: float | None) -> str:
    """Return a character for an escape time, darker towards the set."""
    if not value:
        return "@" if value is not None else " "
    return SHADES[int(nearness(value) * len(SHADES))]


def nearness(value: float) -> float:
    """Tell how near the set a point is, from 0 to below 1."""
    return min(0.999, max(0.0, math.log2(value) - 0.6) / 6.0)


class Screen:
    """Shows progress. Tiles come in through `arrived`, in dispy's callback thread."""

    def __init__(self, picture: Picture, live: bool) -> None:
        self.picture = picture
        self.live = live
        self._done = 0
        self._drawing = False
        self._lock = threading.Lock()

    def arrived(self, job: dispy.DispyJob) -> None:
        """Take a job that has ended; this is the cluster's ``job_status`` callback."""
        if job.status != dispy.DispyJob.Finished:
            return
        index, image = job.result
        with self._lock:
            self._done += 1
            self.picture.put(index, image)
            if self.live:
                self._draw(index)
            elif self._done % max(1, len(self.picture.tiles) // 4) == 0:
                print(self._progress(), flush=True)

    def _draw(self, index: int) -> None:
        """Draw a tile and the line of progress. The cursor rests below the picture, in the first column."""
        lines = self.picture.rows // 2
        if not self._drawing:  # not earlier: dispy may have had something to say, on stderr
            self._drawing = True
            sys.stdout.write("\x1b[?25l")
            for row in range(0, self.picture.rows, 2):
                sys.stdout.write(self.picture.ansi_line(row, 0, self.picture.columns) + "\n")
        column, first, width, height = self.picture.tiles[index]
        sys.stdout.write(f"\x1b[{lines - first // 2}A")
        for row in range(first, first + height, 2):
            sys.stdout.write(
                f"\x1b[{column + 1}G{self.picture.ansi_line(row, column, column + width)}\x1b[1B"
            )
        below = lines - (first + height + 1) // 2
        sys.stdout.write((f"\x1b[{below}B" if below else "") + f"\x1b[1G\x1b[K{self._progress()}\x1b[1G")
        sys.stdout.flush()

    def _progress(self) -> str:
        share = self._done / len(self.picture.tiles)
        bar = "#" * int(share * 30)
        return f"[{bar:<30}] {self._done}/{len(self.picture.tiles)} tiles"

    def finish(self) -> None:
        """Leave the terminal as it was; where there is none, print the picture."""
        with self._lock:
            if self._drawing:
                self._drawing = False
                sys.stdout.write("\x1b[?25h\x1b[K\n")
                sys.stdout.flush()
            elif not self.live and self._done:
                print("\n".join(self.picture.plain_lines()), flush=True)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Draw the Mandelbrot set in parallel with dispy.")
    parser.add_argument(
        "--nodes", nargs="+", help="nodes to use; default: those that are found, or this machine"
    )
    parser.add_argument("--width", type=int, help="columns of the picture; default: as the terminal has room")
    parser.add_argument(
        "--samples", type=int, default=6, help="samples per pixel, each way; more is more work"
    )
    parser.add_argument("--depth", type=int, default=DEPTH, help="iterations after which a point is inside")
    parser.add_argument("--plain", action="store_true", help="print plain text although this is a terminal")
    parser.add_argument("--png", type=Path, metavar="FILE", help="write the picture to FILE as well")
    return parser.parse_args()


def make_picture(options: argparse.Namespace, live: bool) -> Picture:
    """Choose a size that fits the terminal; rows are even, as a line of the terminal holds two."""
    room = shutil.get_terminal_size((100, 40))
    columns = options.width or max(
        20, min(room.columns - 1, 110, int((room.lines - 8) * 3.2) if live else 110)
    )
    rows = max(2, int(columns / 1.6) // 2 * 2)
    return Picture(columns, rows, tile_columns=max(4, -(-columns // 8)), tile_rows=max(2, rows // 8 // 2 * 2))


def main() -> None:
    options = read_options()
    live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not options.plain
    picture = make_picture(options, live)
    screen = Screen(picture, live)
    step = WIDTH / picture.columns
    left, top = CENTRE[0] - WIDTH / 2, CENTRE[1] - step * picture.rows / 2

    print(
        f"Mandelbrot set, {picture.columns} x {picture.rows} pixels in {len(picture.tiles)} jobs", flush=True
    )
    cluster = dispy.JobCluster(
        compute, job_status=screen.arrived, **({"nodes": options.nodes} if options.nodes else {})
    )
    started = time.monotonic()
    try:
        jobs = []
        for index, (column, row, width, height) in enumerate(picture.tiles):
            x, y = left + column * step, top + row * step
            jobs.append(cluster.submit(index, x, y, width, height, step, options.depth, options.samples))
        cluster.wait()
        wall_s = time.monotonic() - started
    finally:
        screen.finish()

    failed = [job for job in jobs if job.status != dispy.DispyJob.Finished]
    for job in failed[:3]:
        print(f"job {job.id} failed: {job.exception}", file=sys.stderr)
    work_s = sum((job.end_time or 0.0) - (job.start_time or 0.0) for job in jobs)
    nodes = cluster.status().nodes
    cluster.stats()
    print(
        f"{len(jobs)} jobs on {len(nodes)} node{'s' * (len(nodes) != 1)} "
        f"with {sum(node.cpus for node in nodes)} CPUs: {wall_s:.1f} s for {work_s:.1f} s of work, "
        f"speed-up {work_s / wall_s:.2f}"
    )
    if options.png:
        picture.write_png(options.png)
    cluster.close()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
