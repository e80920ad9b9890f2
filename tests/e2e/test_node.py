"""A node daemon under bad conditions: foreign bytes, vanishing clients, signals, crashes, a full disk."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dispy


def square(number: int) -> int:
    return number * number


def nap(seconds: float, marker: str = "") -> float:
    import time

    if marker:
        with open(marker, "a") as file:
            file.write("started\n")
    time.sleep(seconds)
    return seconds


def pid_of_job(seconds: float) -> int:
    import os
    import time

    time.sleep(seconds)
    return os.getpid()


def works(node: Any, **options: Any) -> bool:
    with dispy.JobCluster(square, nodes=[node.address], **options) as cluster:
        return cluster.submit(5)() == 25


def connect(node: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", node.port), timeout=10)


HTTP = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
NOISE = random.Random(1).randbytes(5000)
TLS = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300)
PLAIN = b"DISPY\r\n\0" + struct.pack(">II", 2**31, 0)


def say(node: Any, data: bytes) -> None:
    """Connect, send *data*, and wait until the node has hung up."""
    with connect(node) as stranger:
        stranger.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            while stranger.recv(65536):
                pass


@pytest.mark.parametrize(
    ("data", "told"),
    [(HTTP, "no dispy"), (NOISE, "no dispy"), (TLS, "in time"), (PLAIN, r"open \(plain\)")],
    ids=["http", "random", "tls", "plain"],
)
def test_foreign_bytes_are_told_in_the_log_and_harm_nothing(node: Any, data: bytes, told: str) -> None:
    say(node, data)
    node.wait_for(f"refused: .*{told}")
    assert works(node)


@pytest.mark.parametrize(
    ("data", "told"),
    [(HTTP, "HTTP"), (NOISE, "not the dispy protocol"), (TLS, "TLS"), (PLAIN, "frame")],
    ids=["http", "random", "tls", "huge frame"],
)
def test_foreign_bytes_harm_an_open_node_neither(
    start_node: Callable[..., Any], data: bytes, told: str
) -> None:
    node = start_node("--open", "-i", "127.0.0.1")
    say(node, data)
    node.wait_for(f"refused: .*{told}")
    assert works(node, secret=dispy.OPEN)


def test_half_a_frame_and_gone(node: Any) -> None:
    with connect(node) as stranger:
        stranger.sendall(b"DISPY\r\n\0" + struct.pack(">II", 1000, 0) + b"half")
    node.wait_for("refused: ")
    assert works(node)


def test_stranger_who_says_nothing_is_let_go(node: Any) -> None:
    began = time.monotonic()
    with connect(node) as stranger:
        while stranger.recv(65536):
            pass
    assert time.monotonic() - began < 9
    assert "did not prove who it is in time" in node.wait_for("refused: .*")[0]


def test_many_strangers_do_not_keep_clients_out(node: Any) -> None:
    strangers = [connect(node) for _ in range(100)]
    try:
        assert works(node)
    finally:
        for stranger in strangers:
            stranger.close()


CLIENT = """
import sys, time
import dispy

def nap(seconds, marker):
    import time
    open(marker, "a").close()
    time.sleep(seconds)

if __name__ == "__main__":
    cluster = dispy.JobCluster(nap, nodes=[sys.argv[1]])
    for number in range(2):
        cluster.submit(600, f"{sys.argv[2]}{number}")
    print("submitted", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def start_client(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start programs that submit long jobs; they are killed with the test."""
    clients = []

    def start(*args: str) -> subprocess.Popen[str]:
        script = tmp_path / "client.py"
        script.write_text(CLIENT)
        client = subprocess.Popen(
            [sys.executable, str(script), *args], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.kill()
        client.wait()
        if client.stdout:
            client.stdout.close()


def processes_with(text: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (
                text.encode() in (entry / "environ").read_bytes()
                and (entry / "stat").read_text().split()[2] != "Z"
            ):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_client_killed_in_mid_job_leaves_the_node_well(
    node: Any, start_client: Any, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    marker = str(tmp_path / "marker")
    client = start_client(node.address, marker)
    eventually(lambda: os.path.exists(marker + "0"), "the job started")
    client.kill()
    node.wait_for("left: ")
    # The lost client keeps its lease on what runs; whoever comes now still gets slots when they are free.
    assert node.process.poll() is None


def test_embedded_node_ends_with_a_killed_program(
    start_client: Any, tmp_path: Path, eventually: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = f"TEST_MARK={os.getpid()}-{time.time()}"
    monkeypatch.setenv(*mark.split("=", 1))
    marker = str(tmp_path / "marker")
    client = start_client("local", marker)
    eventually(lambda: os.path.exists(marker + "0"), "the job started")
    assert len(processes_with(mark)) > 2
    client.kill()
    client.wait()
    eventually(lambda: not processes_with(mark), "all processes of the program are gone")


def test_node_killed_in_mid_job_is_told_with_a_reason(
    start_node: Callable[..., Any], tmp_path: Path, eventually: Callable[..., None]
) -> None:
    node = start_node()
    marker = str(tmp_path / "marker")
    with dispy.JobCluster(nap, nodes=[node.address]) as cluster:
        job = cluster.submit(600, marker)
        eventually(lambda: os.path.exists(marker), "the job started")
        node.process.kill()
        assert job.wait(30)
        assert job.status == dispy.DispyJob.Abandoned
        assert job() is None
        assert "node" in job.exception
    assert Path(marker).read_text() == "started\n"


def test_reentrant_job_of_a_killed_node_runs_elsewhere(
    start_node: Callable[..., Any], tmp_path: Path, eventually: Callable[..., None]
) -> None:
    first, second = start_node(cpus=1), start_node(cpus=1)
    marker = str(tmp_path / "marker")
    with dispy.JobCluster(nap, nodes=[first.address, second.address], reentrant=True) as cluster:
        jobs = [cluster.submit(4, marker) for _ in range(2)]
        eventually(
            lambda: os.path.exists(marker) and Path(marker).read_text().count("\n") == 2, "both started"
        )
        first.process.kill()
        for job in jobs:
            assert job.wait(60)
            assert (job(), job.status) == (4, dispy.DispyJob.Finished), job.exception
    assert Path(marker).read_text().count("started") == 3


def test_restarted_node_is_used_again(start_node: Callable[..., Any], tmp_path: Path) -> None:
    node = start_node(folder=tmp_path / "state")
    port = node.port
    with dispy.JobCluster(square, nodes=[node.address], reentrant=True) as cluster:
        assert cluster.submit(3)() == 9
        node.process.kill()
        node.process.wait()
        job = cluster.submit(4)
        again = start_node("-p", str(port - 1), folder=tmp_path / "state")
        assert again.port == port
        assert job.wait(40)
        assert job() == 16


def test_several_clients_share_a_node(start_node: Callable[..., Any]) -> None:
    node = start_node(cpus=2)
    program = f"""
import dispy
def compute(n):
    import time
    time.sleep(0.05)
    return n
if __name__ == "__main__":
    with dispy.JobCluster(compute, nodes=[{node.address!r}]) as cluster:
        print(sum(job() for job in [cluster.submit(n) for n in range(20)]))
"""
    clients = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    # Functions typed with -c have no file; they go by value all the same.
    assert [client.communicate(timeout=60)[0].strip() for client in clients] == ["190"] * 3


def test_first_sigterm_drains(start_node: Callable[..., Any], eventually: Callable[..., None]) -> None:
    node = start_node()
    with dispy.JobCluster(nap, nodes=[node.address]) as cluster:
        job = cluster.submit(1.5)
        eventually(lambda: job.status == dispy.DispyJob.Running, "the job runs")
        node.process.send_signal(signal.SIGTERM)
        assert job() == 1.5
        assert node.process.wait(20) == 0


def test_second_sigterm_ends_at_once(start_node: Callable[..., Any], eventually: Callable[..., None]) -> None:
    node = start_node()
    cluster = dispy.JobCluster(pid_of_job, nodes=[node.address])
    job = cluster.submit(600)
    eventually(lambda: job.status == dispy.DispyJob.Running, "the job runs")
    node.process.send_signal(signal.SIGTERM)
    node.wait_for("taking no more jobs")
    node.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    node.process.wait(20)
    assert time.monotonic() - began < 10
    assert job.wait(30)
    assert job.status in (dispy.DispyJob.Abandoned, dispy.DispyJob.Terminated)
    cluster.close(timeout=0, terminate=True)


def run_node(*options: str, timeout_s: float = 20) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dispy_node", *options],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def test_port_in_use_ends_the_node_with_a_message(node: Any, tmp_path: Path) -> None:
    second = run_node("-p", str(node.port - 1), "--dest_path_prefix", str(tmp_path / "other"))
    assert second.returncode != 0
    assert str(node.port) in second.stderr
    assert "in use" in second.stderr
    assert "Traceback" not in second.stderr


def test_folder_in_use_ends_the_node_with_a_message(start_node: Callable[..., Any], tmp_path: Path) -> None:
    start_node(folder=tmp_path / "state")
    second = run_node("-p", "0", "--dest_path_prefix", str(tmp_path / "state"))
    assert second.returncode != 0
    assert "used by another node" in second.stderr
    assert "Traceback" not in second.stderr


def test_open_node_refuses_a_public_address() -> None:
    refused = run_node("--open", "-i", "8.8.8.8", "-p", "0")
    assert refused.returncode != 0
    assert "8.8.8.8 is a public address" in refused.stderr


def test_open_node_says_loudly_what_that_means(start_node: Callable[..., Any]) -> None:
    node = start_node("--open", "-i", "127.0.0.1")
    assert "THIS NODE IS OPEN" in node.log


def test_state_heals_after_a_kill(start_node: Callable[..., Any], tmp_path: Path) -> None:
    first = start_node(folder=tmp_path / "state")
    assert works(first)
    first.process.kill()
    first.process.wait()
    assert works(start_node(folder=tmp_path / "state"))


def test_full_disk_at_the_node_is_told_to_the_client(start_node: Callable[..., Any], tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk needs root: {mounted.stderr.decode().strip()}")
    try:
        node = start_node(folder=small)
        with dispy.JobCluster(size_of, nodes=[node.address]) as cluster:
            job = cluster.submit(bytes(20_000_000))
            assert job.wait(30)
            assert job() is None
            assert "full" in job.exception
            assert cluster.submit(b"abc")() == 3
        node.end()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


def size_of(data: bytes) -> int:
    return len(data)


def test_json_log(start_node: Callable[..., Any]) -> None:
    node = start_node("--log-format", "json")
    assert '"text": "node' in node.log


def kills_its_runner_if(kills: bool) -> str:
    import os
    import signal
    import time

    if kills:
        os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(0.2)
    return "done"


def test_job_that_kills_its_runner_harms_only_what_ran_beside_it(node: Any) -> None:
    with dispy.JobCluster(kills_its_runner_if, nodes=[node.address]) as cluster:
        jobs = [cluster.submit(number == 1) for number in range(6)]
        for job in jobs:
            assert job.wait(60)
        assert jobs[1].status == dispy.DispyJob.Terminated
        assert "SIGKILL" in jobs[1].exception
        assert [job() for job in jobs[2:]] == ["done"] * 4


RUN_UNTIL_LOST = """
import sys
import dispy

def nap(seconds):
    import time
    time.sleep(seconds)

cluster = dispy.JobCluster(nap, nodes=[sys.argv[1]])
jobs = [cluster.submit(60) for _ in range(3)]
while jobs[0].status != dispy.DispyJob.Running:
    pass
print("running", flush=True)
jobs[2].wait(6)
cluster.close(timeout=0, terminate=True)
"""


def test_loss_of_the_last_node_is_told(node: Any, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(RUN_UNTIL_LOST)
    program = subprocess.Popen(
        [sys.executable, script, node.address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "running\n"
    node.process.kill()
    _, said = program.communicate(timeout=60)
    assert said.count("no usable node for 'nap'") == 1
    assert node.address in said


def test_interrupt_while_waiting_at_exit_is_told_and_seen_by_the_shell(node: Any, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import sys, dispy\n"
        "def nap():\n    import time; time.sleep(600)\n"
        "cluster = dispy.JobCluster(nap, nodes=[sys.argv[1]])\n"
        "cluster.submit()\n"
    )
    program = subprocess.Popen([sys.executable, script, node.address], stderr=subprocess.PIPE, text=True)
    assert program.stderr is not None
    assert "waiting for 1 job(s)" in program.stderr.readline()
    program.send_signal(signal.SIGINT)
    _, said = program.communicate(timeout=30)
    assert program.returncode == -signal.SIGINT
    assert "interrupted: ending 1 job(s)" in said
    assert "Traceback" not in said


def test_module_that_no_node_has_ends_the_jobs_with_the_reason(node: Any, tmp_path: Path) -> None:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "only_at_the_client.py").write_text("value = 5\n")
    script = tmp_path / "program.py"
    script.write_text(
        f"import sys; sys.path.append({str(folder)!r})\n"
        "import dispy, only_at_the_client\n"
        "def compute():\n    return only_at_the_client.value\n"
        "with dispy.JobCluster(compute, nodes=[sys.argv[1]]) as cluster:\n"
        "    job = cluster.submit()\n"
        "    print(job.wait(30), job.status == dispy.DispyJob.Terminated, job.exception)\n"
    )
    done = subprocess.run(
        [sys.executable, script, node.address], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.startswith("True True"), done.stderr
    assert "only_at_the_client" in done.stdout


LARGE_RESULTS = """
import sys
import dispy

def fill(letter):
    import time
    time.sleep(0.3)
    return letter * 300_000

with dispy.JobCluster(fill, nodes=[sys.argv[1]]) as cluster:
    jobs = [cluster.submit(sys.argv[2]) for _ in range(6)]
    print(all(job() == sys.argv[2] * 300_000 for job in jobs))
"""


def test_large_results_of_two_clients_do_not_meet(node: Any, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(LARGE_RESULTS)
    clients = [
        subprocess.Popen([sys.executable, script, node.address, letter], stdout=subprocess.PIPE, text=True)
        for letter in "ab"
    ]
    assert [client.communicate(timeout=60)[0].strip() for client in clients] == ["True", "True"]
