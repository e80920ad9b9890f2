"""How many jobs a second one runner gets through, next to the floor of the machine in the same minute.

    python benchmarks/runner_rate.py [--jobs 3000] [--slots 2] [--reps 3] [--only process,worker,program]

The daemon's part is played by a loop that does as little as possible: it keeps a window of jobs in the runner and
counts results. *floor* is a bare loop that forks, passes a pickled call and its result through a pipe and reaps,
as many at a time as there are slots.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import pickle
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

from dispy_node.runner import frames

SOURCE = "def compute(number):\n    return number\n"
WINDOW = 256
"""Jobs in the runner at a time: what a scheduler gives ahead when jobs are tiny."""
FLOOR = r"""
import gc, os, pickle, select, sys, time
gc.disable(); gc.freeze()
payload = pickle.dumps((1,))
def f(i): return i
def start_one():
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(r)
        os.write(w, pickle.dumps(f(*pickle.loads(payload))))
        os._exit(0)
    os.close(w)
    return r, pid
slots, jobs = int(sys.argv[1]), int(sys.argv[2])
running, n = {}, 0
start = time.perf_counter()
while n < jobs:
    while len(running) < slots:
        r, pid = start_one()
        running[r] = pid
    for r in select.select(list(running), [], [])[0]:
        assert pickle.loads(os.read(r, 65536)) == 1
        os.close(r)
        os.waitpid(running.pop(r), 0)
        n += 1
print(n / (time.perf_counter() - start))
"""


def start_runner(
    folder: str, isolation: str, program: list[str]
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a runner as a daemon does."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-m", "dispy_node.runner"],
        pass_fds=[theirs.fileno()],
        start_new_session=True,
        env={**os.environ, "DISPY_RUNNER_FD": str(theirs.fileno()), "LD_BIND_NOW": "1"},
    )
    theirs.close()
    settings = {
        "isolation": isolation,
        "folder": folder,
        "spool": folder,
        "node": "bench",
        "program": program,
    }
    bundle = (
        b"S" + json.dumps({"sources": [{"text": SOURCE, "name": "compute"}], "compute": "compute"}).encode()
    )
    ours.sendall(
        frames.frame(frames.CONFIGURE, json.dumps(settings).encode())
        + frames.frame(frames.LOAD, b"\0" + bundle)
    )
    return process, ours


def run_jobs(isolation: str, jobs: int, slots: int, program: list[str]) -> float:
    """Run no-op jobs through a fresh runner; jobs a second from first to last."""
    folder = tempfile.mkdtemp()
    process, control = start_runner(folder, isolation, program)
    reader = frames.FrameReader()
    body = struct.pack("<I", 0) if program else pickle.dumps(((1,), {}), 5)
    try:
        while not any(kind == frames.READY for kind, _ in reader.feed(control.recv(1 << 16))):
            pass
        control.sendall(frames.frame(frames.SLOTS, frames.COUNT.pack(slots)))
        time.sleep(0.1)
        given = done = 0
        start = time.perf_counter()
        while done < jobs:
            count = min(WINDOW - (given - done), jobs - given)
            if count >= WINDOW // 4 or (count and given == done):
                batch = [(number, 1, False, body) for number in range(given, given + count)]
                given += count
                control.sendall(frames.frame(frames.RUN, frames.pack_jobs(batch)))
            for kind, payload in reader.feed(control.recv(1 << 18)):
                if kind == frames.ENDED:
                    offset = 0
                    while offset < len(payload):
                        result = frames.RESULT.unpack_from(payload, offset)
                        assert result[2] in (0, 1), payload[offset:]
                        offset += frames.RESULT.size + result[6] + result[8]
                        done += 1
        took = time.perf_counter() - start
        control.sendall(frames.frame(frames.CLOSE, b"\0"))
        process.wait(10)
    finally:
        process.kill()
        control.close()
        shutil.rmtree(folder)
    return jobs / took


def start_time() -> float:
    """Milliseconds from starting a runner to READY."""
    folder = tempfile.mkdtemp()
    start = time.perf_counter()
    process, control = start_runner(folder, "process", [])
    control.recv(16)
    took = time.perf_counter() - start
    control.close()
    process.wait(10)
    shutil.rmtree(folder)
    return took * 1e3


def floor(slots: int, jobs: int) -> float:
    """The least that a fresh process for each job can cost."""
    command = [sys.executable, "-c", FLOOR, str(slots), str(jobs)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--only", default="floor,process,worker,program,start")
    options = parser.parse_args()
    gc.disable()
    jobs, slots = options.jobs, options.slots
    true = shutil.which("true") or "/bin/true"
    measures = {
        "floor": lambda: floor(slots, jobs),
        "process": lambda: run_jobs("process", jobs, slots, []),
        "worker": lambda: run_jobs("worker", jobs * 30, slots, []),
        "program": lambda: run_jobs("process", jobs, slots, [true]),
        "start": start_time,
    }
    wanted = options.only.split(",")
    values: dict[str, list[float]] = {name: [] for name in wanted}
    for _ in range(options.reps):
        for name in wanted:
            values[name].append(measures[name]())
    for name, found in values.items():
        unit = "ms to READY" if name == "start" else "jobs/s"
        print(f"{name:8} {statistics.median(found):10.1f} {unit}   [{min(found):.1f} - {max(found):.1f}]")
    if "floor" in values and "process" in values:
        share = statistics.median(values["process"]) / statistics.median(values["floor"])
        print(f"process / floor: {share:.0%}")


if __name__ == "__main__":
    main()
