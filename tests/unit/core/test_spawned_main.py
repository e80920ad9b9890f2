"""In a child that multiprocessing has spawned, the main module is called ``__mp_main__``; at a node it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOADER = Path(__file__).with_name("bundle_loader.py")

SCRIPT = """
import enum, multiprocessing, pathlib, pickle, subprocess, sys
from dispy.packing.bundle import pack_computation
from dispy.packing.source import source_bundle

OFFSET = 1000

class Point:
    def __init__(self, x):
        self.x = x

class Unmentioned(Point):
    def moved(self):
        return shift(self.x)

class Colour(enum.Enum):
    RED = 1

ORIGIN = Point(5)

def shift(x):
    return x + OFFSET

def compute(point, other, colour, function):
    assert type(point) is Point, (type(point), Point)
    assert type(point).__module__ == type(other).__module__ == type(colour).__module__ == "__main__"
    assert "__mp_main__" not in (compute.__module__, function.__module__, shift.__globals__["__name__"])
    return Point(shift(point.x) + other.moved() + colour.value + function(1) + ORIGIN.x)

def child(folder, form):
    assert __name__ == "__mp_main__"
    bundle = pack_computation(compute)
    code = bundle.code
    if form == "source":
        code = source_bundle(bundle._code._contents.target, bundle._code._contents.names, {})
    (folder / "code").write_bytes(code)
    arguments = Point(1), Unmentioned(2), Colour.RED, lambda x: x + 1
    (folder / "body-0").write_bytes(bundle.pack_arguments(arguments, {}))
    subprocess.run([sys.executable, sys.argv[1], str(folder)], check=True)
    succeeded, end = pickle.loads((folder / "end-0").read_bytes())
    assert succeeded, end
    result = pickle.loads(end)
    assert type(result) is Point
    print(result.x)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(
        target=child, args=(pathlib.Path(sys.argv[2]), sys.argv[3])
    )
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""


@pytest.mark.parametrize("form", ["pickle", "source"])
def test_what_is_in_the_main_module_belongs_to_main_at_the_node(tmp_path: Path, form: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(LOADER), str(tmp_path), form]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (0, "2011\n"), ran.stderr
