"""A cluster made in a child that multiprocessing has spawned."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import multiprocessing, sys
import dispy

class Point:
    def __init__(self, x):
        self.x = x

def compute(point):
    return Point(point.x + 1)

def child():
    with dispy.JobCluster(compute, nodes=["local"]) as cluster:
        result = cluster.submit(Point(41))()
        assert type(result) is Point
        print(result.x)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""


def test_function_and_class_of_the_main_module(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "42\n"), ran.stderr
