"""A large file on its way to a node, for benchmarks/run.py: ``python files.py NAME ...``; prints one JSON object.

    copy PATH FOLDER            floor: a process reads the file and sends it over a loopback socket, another writes it
    transfer ADDRESS PID PATH   the file goes to the node at ADDRESS, whose process is PID, by `depends` and `send_file`

Growth of memory is the peak of a process, as the kernel counts it, less what it had before the transfer; that of the
runner is measured against the runner of a cluster that sends no file.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import sys
import time
from pathlib import Path

import dispy

BLOCK_BYTES = 1024 * 1024
MB = 1e6


def copy(path: str, folder: str) -> dict[str, float]:
    """Copy a file through a socket to a disk. MB a second."""
    server = socket.create_server(("127.0.0.1", 0))

    def send() -> None:
        with socket.create_connection(server.getsockname()) as sock, open(path, "rb", buffering=0) as file:
            while data := file.read(BLOCK_BYTES):
                sock.sendall(data)

    os.sync()  # so that each begins with nothing to be written for another
    began = time.perf_counter()
    sender = multiprocessing.get_context("fork").Process(target=send)
    sender.start()
    sock, _ = server.accept()
    target, size = Path(folder, "copy"), 0
    with sock, open(target, "wb", buffering=0) as file:
        buffer = bytearray(BLOCK_BYTES)
        view = memoryview(buffer)
        while count := sock.recv_into(buffer):
            file.write(view[:count])
            size += count
    rate = size / MB / (time.perf_counter() - began)
    sender.join()
    assert size == os.path.getsize(path)
    target.unlink()
    return {"MB/s": rate}


def look(name: str) -> tuple[int, bytes, bytes, int]:
    """Look at both ends of a file; tell the runner, too."""
    size = os.path.getsize(name)
    with open(name, "rb") as file:
        first = file.read(64)
        file.seek(max(0, size - 64))
        return size, first, file.read(64), os.getppid()


def transfer(address: str, pid: str, path: str, *options: str) -> dict[str, float]:
    """Send a file with a computation, and again to its jobs; MB a second, and how processes grow."""
    secret = dispy.OPEN if "--open" in options else None
    small = Path(path).with_name("small")
    small.write_bytes(b"x")
    names = os.path.basename(path), "small"
    os.chdir(os.path.dirname(path))
    size, *ends, _ = look(path)
    times_s, peaks = [], []
    for name in reversed(names):  # first without the large file, for what else it takes
        before = _resident_bytes("self"), _resident_bytes(pid)
        os.sync()
        began = time.perf_counter()
        with dispy.JobCluster(look, nodes=[address], secret=secret, depends=[name]) as cluster:
            *found, runner = cluster.submit(name)()
            times_s.append(time.perf_counter() - began)
            peaks.append(_peak_bytes(str(runner)))
            assert name == "small" or found == [size, *ends]
    depends_grown = [_peak_bytes(one) - old for one, old in zip(("self", pid), before, strict=True)]
    with dispy.JobCluster(look, nodes=[address], secret=secret, depends=["small"]) as cluster:
        *_, runner = cluster.submit("small")()
        pids = "self", pid, str(runner)
        before = tuple(map(_resident_bytes, pids))
        os.sync()
        began = time.perf_counter()
        assert cluster.send_file(path, cluster.status().nodes[0]) == 0
        sent_s = time.perf_counter() - began
        *found, _ = cluster.submit(names[0])()
        assert found == [size, *ends]
        grown = [_peak_bytes(one) - old for one, old in zip(pids, before, strict=True)]
    return {
        "depends MB/s": size / MB / (times_s[1] - times_s[0]),
        "send_file MB/s": size / MB / sent_s,
        "client grows MB": max(depends_grown[0], grown[0]) / MB,
        "node grows MB": max(depends_grown[1], grown[1]) / MB,
        "runner grows MB": max(peaks[1] - peaks[0], grown[2]) / MB,
    }


def _resident_bytes(pid: str) -> int:
    return _from_status(pid, "VmRSS")


def _peak_bytes(pid: str) -> int:
    return _from_status(pid, "VmHWM")


def _from_status(pid: str, key: str) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


if __name__ == "__main__":
    print(json.dumps({"copy": copy, "transfer": transfer}[sys.argv[1]](*sys.argv[2:])))
