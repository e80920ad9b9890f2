"""Runs a target: under atheris, or in a plain loop that counts.

    python fuzz/frames.py -atheris_runs=100000 fuzz/corpus/frames   (coverage-guided; options are libFuzzer's)
    python fuzz/frames.py --count 1000000 --seed 7                  (mutations of the corpus; needs nothing else)

A target takes bytes, and must come back: any exception that leaves it is a defect.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

Target = Callable[[bytes], None]

CORPUS = Path(__file__).with_name("corpus")
INTERESTING = (
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80",
    b"\xdd\xff\xff\xff\xff",
    b"\xc1",
    b"../",
)
SHOWN = 5
"""Different exceptions whose traceback is shown."""


def instrument() -> None:
    """Have the modules that a target imports from now on tell atheris where they go."""
    import atheris

    atheris.instrument_imports(
        include=["dispy", "dispy_discovery_udp", "dispy_node", "dispy_transport_ssl"]
    ).__enter__()


if Path(sys.argv[0]).resolve().parent == CORPUS.resolve().parent and "--count" not in sys.argv:
    instrument()  # a target imports this module before all others


def seeds(name: str) -> list[bytes]:
    """Return the corpus of a target, in an order that is the same everywhere."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def mutate(corpus: list[bytes], rng: random.Random) -> bytes:
    """Return one of the corpus, changed in a few places."""
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 8))):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(7):
            case 0 if place < len(data):
                data[place] ^= 1 << rng.randrange(8)
            case 1 if place < len(data):
                data[place] = rng.randrange(256)
            case 2:
                del data[place:]
            case 3:
                del data[place : place + rng.randrange(1, 9)]
            case 4:
                data[place:place] = rng.randbytes(rng.randrange(1, 9))
            case 5:
                piece = rng.choice(INTERESTING)
                data[place : place + len(piece)] = piece
            case _:
                other = rng.choice(corpus)
                data[place:] = other[rng.randrange(len(other) + 1) :]
    return bytes(data)


def count_loop(name: str, target: Target, count: int, seed: int) -> int:
    """Run the target on *count* inputs; return how many exceptions have left it."""
    rng, corpus = random.Random(seed), seeds(name)
    escaped: Counter[str] = Counter()
    began = time.perf_counter()
    for number in range(count):
        data = mutate(corpus, rng)
        try:
            target(data)
        except Exception as error:  # that is what is looked for
            text = f"{type(error).__name__}: {error}"[:200]
            escaped[text] += 1
            if escaped[text] == 1 and len(escaped) <= SHOWN:
                print(f"input {number}: {data!r}", file=sys.stderr)
                traceback.print_exc()
    taken_s = time.perf_counter() - began
    unhandled = sum(escaped.values())
    print(
        f"{name}: {count} inputs with seed {seed} in {taken_s:.1f} s, {count / taken_s:.0f} a second: "
        f"{unhandled} unhandled exceptions"
    )
    return unhandled


def run(name: str, target: Target) -> None:
    """Do what the command line says."""
    if "--count" in sys.argv:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
        parser.add_argument("--count", type=int, required=True, help="how many inputs")
        parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same inputs")
        options = parser.parse_args()
        sys.exit(bool(count_loop(name, target, options.count, options.seed)))
    import atheris

    atheris.instrument_func(target)
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
