"""What a job costs: dispy next to the floors of the machine, in alternation, medians of several runs.

    python benchmarks/run.py [--reps 5] [--only fresh,worker,...] [--raw FILE]

One node with two slots listens on loopback; output is captured. Every measurement runs in a process of its own
and prints one JSON line; rates of dispy are given next to the floor that was measured just before. Compare only
figures of one run: machines drift.

    fresh      no-op jobs/s, a fresh process for each; floor: fork, one pickled call and result through a pipe, reap
    program    runs of `true` a second; floor: fork and exec of it, two at a time
    worker     no-op jobs/s with processes that are used again, submitted one by one
    latency    submit-and-wait, one at a time, milliseconds: median and 99th percentile, both isolations
    import     `import dispy`, milliseconds on top of a bare interpreter
    start      process start to first result with the embedded node, seconds
    queue      100 000 jobs queued: bytes of client memory each, submitted a second
    bulk       20 jobs with 50 MB of argument each over an open connection, MB/s, and the growth of the daemon;
               floor: loopback socket
    file       a file of 1 GB (--file-mb) to a node by `depends` and by `send_file` over an open connection, MB/s, and
               the growth of client, node and runner; floor: from disk to disk through a loopback socket. Then the
               same encrypted; floor: from disk to disk through a bare `ssl` socket
    shared     50 jobs that read one array of 100 MB: milliseconds of each on top of a job with a tiny one; MB sent
    instances  jobs/s with an instance of a shipped class as argument, reused processes, next to as many no-op jobs;
               bytes sent for each
    tls        what encryption costs: jobs with 1 KiB there and back, encrypted against open; 20 jobs with 50 MB
               against a bare `ssl` socket; CPU of a handshake, both sides together, next to one of `ssl` alone with the
               same certificates; 500 nodes connect to one client
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
Figures = dict[str, float]

FILE_MB = 1000
"""Size of the file for `file`."""


class Node:
    """A node daemon on a free port of loopback."""

    def __init__(self, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        command = [
            sys.executable,
            "-m",
            "dispy_node",
            "-p",
            "0",
            "-c",
            "2",
            "--dest-path-prefix",
            self._folder.name,
            "--host",
            "127.0.0.1",
            *options,
        ]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"listens on tcp:127\.0\.0\.1:(\d+)", line):
                self.address = f"127.0.0.1:{found[1]}"
                break
        else:
            raise RuntimeError("the node did not start")

    def close(self) -> None:
        """End the daemon."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        assert self.process.stderr is not None
        self.process.stderr.close()
        self._folder.cleanup()


def measure(script: str, *args: str) -> Figures:
    """Run a function of workloads.py or floors.py in a fresh interpreter; it prints one JSON object."""
    module, _, name = script.partition(":")
    done = subprocess.run(
        [sys.executable, str(HERE / f"{module}.py"), name, *args], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{script} failed:\n{done.stderr}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def with_node(script: str, *options: str, arguments: tuple[str, ...] = ()) -> Figures:
    """Measure against a node that is started for it; *arguments* are for the measurement alone."""
    node = Node(*options)
    try:
        return measure(script, node.address, str(node.process.pid), *arguments, *options)
    finally:
        node.close()


def fresh() -> Figures:
    """Fresh processes against the floor."""
    floor = measure("floors:fork_jobs")["rate"]
    ours = with_node("workloads:fresh")["rate"]
    return {"jobs/s": ours, "floor/s": floor, "of floor": ours / floor}


def program() -> Figures:
    """Programs against the floor."""
    floor = measure("floors:programs")["rate"]
    ours = with_node("workloads:programs")["rate"]
    return {"runs/s": ours, "floor/s": floor, "of floor": ours / floor}


def worker() -> Figures:
    """Processes that are used again, against the standard library's pool of processes."""
    floor = measure("floors:pool")["rate"]
    ours = with_node("workloads:worker")["rate"]
    return {"jobs/s": ours, "ProcessPoolExecutor/s": floor, "of that": ours / floor}


def latency() -> Figures:
    """One job at a time."""
    return with_node("workloads:latency")


def import_() -> Figures:
    """The import alone."""
    return measure("workloads:import_time")


def start() -> Figures:
    """From nothing to a result."""
    return measure("workloads:start")


def queue() -> Figures:
    """Many jobs and no node."""
    return measure("workloads:queue")


def bulk() -> Figures:
    """Large arguments against a socket."""
    floor = measure("floors:socket_copy")["rate"]
    figures = with_node("workloads:bulk", "--open")
    return {**figures, "socket MB/s": floor, "of socket": figures["MB/s"] / floor}


def file(size_mb: int = FILE_MB) -> Figures:
    """A large file against a copy through a socket, from disk to disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "large")
        block = os.urandom(1_000_000)
        with open(path, "wb") as target:
            for _ in range(size_mb):
                target.write(block)
        floor = measure("files:copy", path, folder)["MB/s"]
        figures = with_node("files:transfer", "--open", arguments=(path,))
        encrypted_floor = measure("files:copy", path, folder, "tls")["MB/s"]
        encrypted = with_node("files:transfer", arguments=(path,))
    return {
        **figures,
        "socket to disk MB/s": floor,
        "depends of that": figures["depends MB/s"] / floor,
        "send_file of that": figures["send_file MB/s"] / floor,
        "encrypted depends MB/s": encrypted["depends MB/s"],
        "encrypted send_file MB/s": encrypted["send_file MB/s"],
        "ssl socket to disk MB/s": encrypted_floor,
        "encrypted depends of that": encrypted["depends MB/s"] / encrypted_floor,
        "encrypted send_file of that": encrypted["send_file MB/s"] / encrypted_floor,
        "encrypted growth MB": max(value for key, value in encrypted.items() if key.endswith("grows MB")),
    }


def shared() -> Figures:
    """Data that jobs share."""
    return with_node("workloads:shared")


def instances() -> Figures:
    """Instances of a class that is sent along."""
    floor = with_node("workloads:few")["rate"]
    figures = with_node("workloads:instances")
    ours = figures["rate"]
    return {"jobs/s": ours, "no-op/s": floor, "of that": ours / floor, "bytes/job": figures["bytes/job"]}


def tls() -> Figures:
    """What encryption costs."""
    encrypted = with_node("encryption:kibibytes")["rate"]
    open_ = with_node("encryption:kibibytes", "--open")["rate"]
    socket = measure("floors:ssl_copy")["rate"]
    bulk = with_node("workloads:bulk")["MB/s"]
    return {
        "1 KiB jobs/s": encrypted,
        "open jobs/s": open_,
        "of open": encrypted / open_,
        "bulk MB/s": bulk,
        "ssl socket MB/s": socket,
        "of ssl socket": bulk / socket,
        **measure("encryption:handshakes"),
        **measure("encryption:many_nodes"),
    }


BENCHMARKS: dict[str, Callable[[], Figures]] = {
    "fresh": fresh,
    "program": program,
    "worker": worker,
    "latency": latency,
    "import": import_,
    "start": start,
    "queue": queue,
    "bulk": bulk,
    "file": file,
    "shared": shared,
    "instances": instances,
    "tls": tls,
}


def main() -> None:
    """Run what was asked for, in alternation, and print medians with the range."""
    os.environ["DISPY_INTERFACES"] = "lo"  # nodes that are measured announce themselves to nobody else
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(BENCHMARKS))
    parser.add_argument("--file-mb", type=int, default=FILE_MB, help="size for `file`")
    parser.add_argument("--raw", type=Path, help="append every figure to this file, one JSON line each")
    options = parser.parse_args()
    benchmarks = {**BENCHMARKS, "file": functools.partial(file, options.file_mb)}
    found: dict[str, list[Figures]] = {name: [] for name in options.only}
    for _ in range(options.reps):
        for name in options.only:
            figures = benchmarks[name]()
            found[name].append(figures)
            if options.raw:
                with options.raw.open("a") as raw:
                    raw.write(json.dumps({"benchmark": name, **figures}) + "\n")
    print(
        f"Python {sys.version.split()[0]}, {os.cpu_count()} processors, medians of {options.reps} runs [range]\n"
    )
    for name, runs in found.items():
        for key in runs[0]:
            values = [run[key] for run in runs]
            print(
                f"{name:9} {key:24} {statistics.median(values):12.4g}  [{min(values):.4g} - {max(values):.4g}]"
            )


if __name__ == "__main__":
    main()
