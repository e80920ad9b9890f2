"""What dispy does in benchmarks/run.py: ``python workloads.py NAME [ADDRESS PID]``; prints one JSON object.

ADDRESS is the node's, PID its process. Every workload checks its results.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import statistics
import subprocess
import sys
import time

import dispy


def noop(number: int) -> int:
    """Do nothing."""
    return number


def size(data: bytes) -> int:
    """Look at the argument."""
    return len(data)


def rate_of(computation: object, count: int, address: str, isolation: str = "process") -> float:
    """Submit *count* jobs one by one and wait for all; jobs a second from the first submit."""
    with dispy.JobCluster(computation, nodes=[address], isolation=isolation) as cluster:
        for number in range(20):
            cluster.submit(number)()
        began = time.perf_counter()
        jobs = [cluster.submit(number) for number in range(count)]
        results = [job() for job in jobs]
        elapsed_s = time.perf_counter() - began
        wanted = [0] * count if isinstance(computation, str) else list(range(count))
        assert results == wanted, next(job.exception for job in jobs if job.exception)
        return count / elapsed_s


def fresh(address: str) -> dict[str, float]:
    """A fresh process for each job."""
    return {"rate": rate_of(noop, 3000, address)}


def programs(address: str) -> dict[str, float]:
    """A run of a program for each job."""
    return {"rate": rate_of("true", 2000, address)}


def worker(address: str) -> dict[str, float]:
    """Processes that are used again."""
    return {"rate": rate_of(noop, 100_000, address, "worker")}


def few(address: str) -> dict[str, float]:
    """The same for as many jobs as `instances` has."""
    return {"rate": rate_of(noop, 10_000, address, "worker")}


def latency(address: str) -> dict[str, float]:
    """One job at a time."""
    figures = {}
    for isolation, count in (("worker", 2000), ("process", 500)):
        with dispy.JobCluster(noop, nodes=[address], isolation=isolation) as cluster:
            for number in range(50):
                cluster.submit(number)()
            times_ms = []
            for number in range(count):
                began = time.perf_counter()
                assert cluster.submit(number)() == number
                times_ms.append((time.perf_counter() - began) * 1000)
        figures[f"{isolation} median ms"] = statistics.median(times_ms)
        figures[f"{isolation} p99 ms"] = statistics.quantiles(times_ms, n=100)[98]
    return figures


def import_time() -> dict[str, float]:
    """Interpreters with and without the import, in alternation."""
    with_ms, without_ms = [], []
    code = "import sys, dispy; assert 'trio' not in sys.modules"
    for _ in range(10):
        for command, times in ((code, with_ms), ("import sys", without_ms)):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", command], check=True)
            times.append((time.perf_counter() - began) * 1000)
    return {"ms": statistics.median(with_ms) - statistics.median(without_ms)}


START = """
import dispy
def compute(number): return number
if __name__ == "__main__":
    cluster = dispy.JobCluster(compute, dispy_port=5)
    print(cluster.submit(7)(), flush=True)
    import os; os.read(0, 1)
"""


def start() -> dict[str, float]:
    """From the start of a program to its first result, with a node that it starts by itself."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"7"
    elapsed_s = time.perf_counter() - began
    process.communicate(b"x")
    return {"s": elapsed_s}


def queue() -> dict[str, float]:
    """100 000 jobs wait at the client, which has no node."""
    count = 100_000
    cluster = dispy.JobCluster(noop, nodes=["127.0.0.1:9"])
    cluster.submit(0)
    time.sleep(0.5)
    before = _resident_bytes()
    began = time.perf_counter()
    jobs = [cluster.submit(number) for number in range(count)]
    elapsed_s = time.perf_counter() - began
    time.sleep(1)
    grown = _resident_bytes() - before
    cluster.close(timeout=0, terminate=True)
    assert all(job.finish.is_set() for job in jobs)
    return {"bytes/job": grown / count, "submits/s": count / elapsed_s}


def bulk(address: str, pid: str, *options: str) -> dict[str, float]:
    """20 jobs with 50 MB each."""
    secret = dispy.OPEN if "--open" in options else None
    data = [os.urandom(50_000_000) for _ in range(20)]
    with dispy.JobCluster(size, nodes=[address], secret=secret) as cluster:
        assert cluster.submit(b"1")() == 1
        before = _peak_bytes(pid)
        began = time.perf_counter()
        jobs = [cluster.submit(one) for one in data]
        assert [job() for job in jobs] == [50_000_000] * 20, jobs[0].exception
        elapsed_s = time.perf_counter() - began
        return {"MB/s": 1000 / elapsed_s, "daemon grows MB": (_peak_bytes(pid) - before) / 1e6}


def first_byte(array: object) -> int:
    """Look at an array."""
    return int(memoryview(array)[0])  # type: ignore[arg-type]


def shared(address: str) -> dict[str, float]:
    """50 jobs that read one array of 100 MB, next to 50 that read a tiny one."""
    array, tiny = pickle.PickleBuffer(bytearray(100_000_000)), pickle.PickleBuffer(bytearray(8))
    with dispy.JobCluster(first_byte, nodes=[address]) as cluster:
        assert cluster.submit(tiny)() == 0
        times_s = []
        for value in (tiny, cluster.put(array)):
            assert cluster.submit(value)() == 0  # with the first job the data goes to the node
            began = time.perf_counter()
            jobs = [cluster.submit(value) for _ in range(50)]
            assert [job() for job in jobs] == [0] * 50, jobs[0].exception
            times_s.append((time.perf_counter() - began) / 50)
        (node,) = cluster.status().nodes
        return {"ms on top": (times_s[1] - times_s[0]) * 1000, "sent MB": node.tx / 1e6}


class Item:
    """Something that is sent to jobs."""

    def __init__(self, number: int) -> None:
        self.number = number


def number_of(item: Item) -> int:
    """Look at the argument."""
    assert isinstance(item, Item)
    return item.number


def instances(address: str) -> dict[str, float]:
    """10 000 jobs with an instance of a shipped class each."""
    count = 10_000
    with dispy.JobCluster(number_of, nodes=[address], depends=[Item], isolation="worker") as cluster:
        for number in range(100):
            cluster.submit(Item(number))()
        (node,) = cluster.status().nodes
        before = node.tx
        began = time.perf_counter()
        jobs = [cluster.submit(Item(number)) for number in range(count)]
        assert [job() for job in jobs] == list(range(count)), jobs[0].exception
        elapsed_s = time.perf_counter() - began
        (node,) = cluster.status().nodes
        return {"rate": count / elapsed_s, "bytes/job": (node.tx - before) / count}


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _peak_bytes(pid: str) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    if name in ("fresh", "programs", "worker", "few", "latency", "shared", "instances"):
        arguments = arguments[:1]
    print(json.dumps(globals()[name](*arguments)))
