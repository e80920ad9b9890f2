"""Real runners, with the daemon's part played by the test: frames over a socket pair."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dispy.model import Outcome
from dispy.packing.bundle import pack_function
from dispy_node.runner import frames
from dispy_node.runner.body import split_body

PATIENCE_S = 30
"""Nothing here takes a second on an idle machine."""


class End(NamedTuple):
    outcome: int
    code: int
    detail: str
    started_at: float
    ended_at: float
    value: bytes
    error: str
    stdout: bytes
    stderr: bytes
    path: str

    @property
    def result(self) -> Any:
        assert self.outcome == Outcome.RETURNED, self
        return pickle.loads(self.value)


class Runner:
    """A runner and the daemon's end of its control socket."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.spool = folder / "spool"
        self.folder = folder / "folder"
        self.spool.mkdir(exist_ok=True)
        self.folder.mkdir(exist_ok=True)
        ours, theirs = socket.socketpair()
        self.control = ours
        self.control.settimeout(PATIENCE_S)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dispy_node.runner"],
                env={**os.environ, "DISPY_RUNNER_FD": str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.reader = frames.FrameReader()
        self.ends: dict[tuple[int, int], End] = {}
        self.order: list[int] = []
        self.started: list[int] = []
        self.slots: list[int] = []
        self.logs: list[str] = []
        self.failure = ""
        self.ready = False
        given = {"folder": str(self.folder), "spool": str(self.spool), "node": "there", **settings}
        self.send(frames.CONFIGURE, json.dumps(given).encode())

    def send(self, kind: int, payload: bytes = b"") -> None:
        self.control.sendall(frames.frame(kind, payload))

    def load(self, code: bytes, *, slots: int = 1) -> Runner:
        self.send(frames.LOAD, b"\0" + code)
        self.wait(lambda: self.ready)
        self.send(frames.SLOTS, frames.COUNT.pack(slots))
        return self

    def define(self, text: str, *, slots: int = 1) -> Runner:
        """Load source text that defines ``compute``."""
        source = {"text": textwrap.dedent(text), "name": "program.py"}
        return self.load(b"S" + json.dumps({"sources": [source], "compute": "compute"}).encode(), slots=slots)

    def submit(self, job: int, *args: object, attempt: int = 1) -> None:
        self.submit_body(job, pickle.dumps((args, {}), 5), attempt=attempt)

    def submit_body(self, job: int, body: bytes, *, attempt: int = 1, is_path: bool = False) -> None:
        self.send(frames.RUN, frames.pack_jobs([(job, attempt, is_path, body)]))

    def receive(self) -> bool:
        """Take what has come; False at the end."""
        data = self.control.recv(1 << 18)
        for kind, payload in self.reader.feed(data):
            if kind == frames.READY:
                self.ready = True
            elif kind == frames.FAILED:
                self.failure = payload.decode()
            elif kind == frames.STARTED:
                self.started += [start[0] for start in frames.unpack_starts(payload)]
            elif kind == frames.SLOTS:
                self.slots.append(frames.COUNT.unpack(payload)[0])
            elif kind == frames.LOG:
                self.logs.append(payload.decode())
            else:
                assert kind == frames.ENDED
                for result in frames.unpack_results(payload):
                    self._take(result)
        return bool(data)

    def _take(self, result: frames.Result) -> None:
        job, attempt, outcome, code, started_at, ended_at, detail, is_path, body = result
        path = os.fsdecode(body) if is_path else ""
        value, error, stdout, stderr = split_body(Path(path).read_bytes() if path else body)
        assert (job, attempt) not in self.ends
        self.order.append(job)
        self.ends[job, attempt] = End(
            outcome, code, detail, started_at, ended_at, value, error.decode(), stdout, stderr, path
        )

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"{self.logs} {self.ends}"
            assert self.receive(), f"the runner has ended: {self.failure} {self.logs}"

    def wait_for_file(self, name: str) -> None:
        """Wait until a job has made a file."""
        deadline = time.monotonic() + PATIENCE_S
        while not (self.folder / name).exists():
            assert time.monotonic() < deadline, f"no {name}"
            time.sleep(0.005)

    def end(self, job: int, attempt: int = 1) -> End:
        self.wait(lambda: (job, attempt) in self.ends)
        return self.ends[job, attempt]

    def run(self, *args: object) -> End:
        """Run one more job and give its end."""
        job = len(self.ends) + 1
        self.submit(job, *args)
        return self.end(job)

    def cancel(self, job: int, attempt: int = 1) -> None:
        self.send(frames.CANCEL, frames.pack_keys([(job, attempt)]))

    def close(self) -> None:
        self.control.close()
        self.process.wait(PATIENCE_S)


Make = Callable[..., Runner]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with contextlib.ExitStack() as stack:

        def start(**settings: object) -> Runner:
            runner = Runner(tmp_path, **settings)
            stack.callback(runner.close)
            return runner

        yield start


both = pytest.mark.parametrize("isolation", ["process", "worker"])


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_until_dead(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} lives"
        time.sleep(0.01)


# ---- what jobs come to


@both
def test_result(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation).define("def compute(*args): return sum(args)")
    before = time.time()
    end = runner.run(1, 2, 3)
    assert end.result == 6
    assert (end.stdout, end.stderr, end.error, end.detail, end.path) == (b"", b"", "", "", "")
    assert before - 1 < end.started_at <= end.ended_at < time.time() + 1


@both
def test_exception_comes_with_traceback_and_lines_of_shipped_text(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation).define(
        """
        def inner(number):
            return number / 0  # divides

        def compute(number):
            return inner(number)
        """
    )
    end = runner.run(3)
    assert end.outcome == Outcome.RAISED
    assert isinstance(pickle.loads(end.value), ZeroDivisionError)
    assert "return number / 0  # divides" in end.error
    assert end.error.endswith("ZeroDivisionError: division by zero\n")
    assert "dispy_node" not in end.error
    assert runner.run(3).error == end.error  # also with what was prepared after the first


@both
@pytest.mark.parametrize(
    ("body", "code", "detail"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", -signal.SIGSEGV, "signal 11 (SIGSEGV)"),
        ("import os; os._exit(7)", 7, "exited with status 7 without a result (os._exit?)"),
        ("import os; os._exit(0)", 0, "exited with status 0 without a result"),
        ("import sys; sys.exit(3)", 3, "the job called sys.exit(3)"),
        ("import sys; sys.exit()", 0, "the job called sys.exit()"),
        ("import sys; sys.exit('no')", 1, "the job called sys.exit('no')"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, "out of memory?"),
    ],
)
def test_death(make: Make, isolation: str, body: str, code: int, detail: str) -> None:
    runner = make(isolation=isolation).define(
        f"def compute(die):\n    print('words', flush=True)\n    if die:\n        {body}\n"
    )
    end = runner.run(True)
    assert (end.outcome, end.code) == (Outcome.DIED, code)
    assert detail in end.detail
    assert end.stdout == b"words\n"
    assert runner.run(False).result is None


@both
@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("return lambda: (yield)", None),  # cloudpickle can
        (
            "import threading; return threading.Lock()",
            "of type _thread.lock, cannot be pickled on node there",
        ),
        ("return (n for n in range(3))", "compute is a generator function or returns a generator"),
        ("return inner()", "compute is an async def function"),
    ],
)
def test_result_that_cannot_be_sent(make: Make, isolation: str, body: str, detail: str | None) -> None:
    runner = make(isolation=isolation).define(f"async def inner(): pass\ndef compute():\n    {body}\n")
    end = runner.run()
    if detail is None:
        assert callable(end.result)
    else:
        assert end.outcome == Outcome.BROKEN
        assert detail in end.detail
        assert end.stderr == b""


def test_async_def(make: Make) -> None:
    end = make().define("async def compute(): pass").run()
    assert end.outcome == Outcome.BROKEN
    assert "compute is an async def function: make it a plain function" in end.detail


@both
def test_missing_module_is_told_with_the_remedy(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation).define("def compute(): import nowhere_found")
    end = runner.run()
    assert end.outcome == Outcome.RAISED
    assert "No module named 'nowhere_found'" in end.error
    body = b"\x80\x05cnowhere_found\nThing\n."
    runner.submit_body(2, body)
    end = runner.end(2)
    assert end.outcome == Outcome.BROKEN
    assert "module 'nowhere_found' is not installed on node there (Python" in end.detail
    assert "install it there or ship it with depends=[...]" in end.detail
    runner.submit_body(3, b"\x80\x05c__main__\nThing\n.")
    assert "depends=[...]" in runner.end(3).detail


@both
def test_keyboard_interrupt_without_cancel_is_an_exception(make: Make, isolation: str) -> None:
    end = make(isolation=isolation).define("def compute(): raise KeyboardInterrupt('mine')").run()
    assert end.outcome == Outcome.RAISED
    assert "KeyboardInterrupt: mine" in end.error


def test_exception_that_cannot_be_pickled_is_text_only(make: Make) -> None:
    runner = make().define(
        """
        import threading
        class Odd(Exception):
            def __init__(self): self.lock = threading.Lock()
            def __str__(self): raise ValueError
        def compute(): raise Odd
        """
    )
    end = runner.run()
    assert (end.outcome, end.value) == (Outcome.RAISED, b"")
    assert "Odd" in end.error


def test_memory_and_recursion_are_exceptions(make: Make) -> None:
    runner = make().define(
        """
        def compute(what):
            if what == "memory": return bytearray(1 << 62)
            return compute(what)
        """
    )
    assert "MemoryError" in runner.run("memory").error
    assert "RecursionError" in runner.run("recursion").error


def test_fork_inside_a_job_gives_one_result(make: Make) -> None:
    runner = make(isolation="worker").define("import os\ndef compute(): return os.fork() > 0\n", slots=1)
    assert [runner.run().result for _ in range(3)] == [True] * 3


# ---- isolation


def test_globals_do_not_leak_between_processes(make: Make) -> None:
    text = "count = 0\ndef compute():\n    global count\n    count += 1\n    return count\n"
    runner = make(isolation="process").define(text)
    assert [runner.run().result for _ in range(4)] == [1, 1, 1, 1]


def test_globals_stay_in_a_worker(make: Make) -> None:
    text = "count = 0\ndef compute():\n    global count\n    count += 1\n    return count\n"
    runner = make(isolation="worker").define(text)
    assert [runner.run().result for _ in range(4)] == [1, 2, 3, 4]


@both
def test_surroundings_of_a_job(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation).define(
        """
        import os, random, signal, sys
        def compute():
            return {
                "cwd": os.getcwd(), "stdin": sys.stdin.read(), "session": os.getsid(0) == os.getpid(),
                "int": callable(signal.getsignal(signal.SIGINT)), "term": signal.getsignal(signal.SIGTERM) == 0,
                "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "path": sys.path[0],
                "main": sys.modules["__main__"].compute is compute, "random": random.random(),
                "files": [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd != "9"
                          and os.path.exists(f"/proc/self/fd/{fd}") or os.path.islink(f"/proc/self/fd/{fd}")],
                "variables": [name for name in os.environ if name in ("DISPY_RUNNER_FD", "LD_BIND_NOW")],
            }
        """,
        slots=2,
    )
    first, second = runner.run().result, runner.run().result
    assert first["cwd"] == first["path"] == str(runner.folder)
    assert first["stdin"] == ""
    assert [first[name] for name in ("session", "int", "term", "main")] == [True] * 4
    assert first["mask"] == first["variables"] == []
    assert first["random"] != second["random"]
    kinds = sorted(name.split(":")[0] for name in first["files"] if not name.startswith("/proc"))
    copies = 2 if isolation == "worker" else 0  # for the jobs after one that closes its own
    assert [kind for kind in kinds if kind != "/dev/null"] == ["pipe", "pipe"] + copies * ["pipe"] + [
        "socket"
    ]


def test_code_of_the_client_as_it_is_packed(make: Make) -> None:
    offset = 5

    class Box:
        def __init__(self, content: int) -> None:
            self.content = content

    def helper(box: Box) -> int:
        return box.content + offset

    def compute(number: int) -> int:
        return helper(Box(number))

    bundle = pack_function(compute)
    runner = make().load(bundle.code)
    assert runner.run(3).result == 8
    loaded = make().define("import sys\ndef compute(): return sorted(sys.modules)").run().result
    assert not {"cloudpickle", "typing", "json", "enum", "pickle", "socket", "ctypes", "dispy"} & set(loaded)


def test_code_that_cannot_be_loaded_is_told(make: Make) -> None:
    runner = make()
    source = {"text": "import nowhere_found\n", "name": "p.py"}
    runner.send(frames.LOAD, b"\0S" + json.dumps({"sources": [source], "compute": "compute"}).encode())
    runner.wait(lambda: runner.failure)
    assert "module 'nowhere_found' is not installed on node there (Python" in runner.failure
    assert runner.process.wait(PATIENCE_S) == 1


def test_code_in_a_file(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "code"
    source = {"text": "def compute(): return 'from a file'", "name": "p.py"}
    path.write_bytes(b"S" + json.dumps({"sources": [source], "compute": "compute"}).encode())
    runner = make()
    runner.send(frames.LOAD, b"\1" + os.fsencode(path))
    runner.wait(lambda: runner.ready)
    runner.send(frames.SLOTS, frames.COUNT.pack(1))
    assert runner.run().result == "from a file"


# ---- output


@both
def test_all_ways_to_print_are_captured(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation).define(
        """
        import ctypes, os, subprocess, sys
        libc = ctypes.CDLL(None)
        def compute(word):
            print(word, "print")
            sys.stdout.flush()
            os.write(1, b"write\\n")
            subprocess.run(["echo", "subprocess"])
            libc.printf(b"printf\\n")
            print("error", file=sys.stderr, end="")
        """
    )
    for word in ("first", "second"):
        end = runner.run(word)
        assert end.stdout == f"{word} print\nwrite\nsubprocess\nprintf\n".encode()
        assert end.stderr == b"error"


@both
def test_output_is_bounded(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation, output_bytes=1000).define(
        """
        import sys
        def compute(megabytes):
            line = "x" * 99 + "\\n"
            sys.stdout.write("begin\\n")
            for _ in range(megabytes * 10):
                sys.stdout.write(line * 1000)
            sys.stdout.write("end\\n")
        """
    )
    end = runner.run(100)
    size = 6 + 100 * 1_000_000 + 4
    marker = f"\n[... {size - 1000} bytes of output dropped ...]\n".encode()
    assert end.stdout.startswith(b"begin\nxxx")
    assert end.stdout.endswith(b"xxx\nend\n")
    assert len(end.stdout) == 1000 + len(marker)
    assert marker in end.stdout
    assert runner.run(0).stdout == b"begin\nend\n"
    memory = Path(f"/proc/{runner.process.pid}/status").read_text().split("VmHWM:")[1].split()[0]
    assert int(memory) < 40_000  # kB


def test_output_of_worker_jobs_is_never_mixed_up(make: Make) -> None:
    runner = make(isolation="worker").define(
        """
        import os, sys
        def compute(number):
            for _ in range(number % 5):
                os.write(1, b"%d\\n" % number)
            if number % 7 == 0:
                os.write(2, b"%d" % number * 30000)
        """,
        slots=2,
    )
    jobs = range(1, 601)
    body = [(job, 1, False, pickle.dumps(((job,), {}), 5)) for job in jobs]
    runner.send(frames.RUN, frames.pack_jobs(body))
    for job in jobs:
        end = runner.end(job)
        assert end.stdout == b"%d\n" % job * (job % 5), job
        assert end.stderr == (b"%d" % job * 30000 if job % 7 == 0 else b""), job


def test_closed_streams_harm_only_the_job_that_closed_them(make: Make) -> None:
    runner = make(isolation="worker").define(
        """
        import sys
        def compute(close):
            print("before")
            if close:
                sys.stdout.close()
                sys.stderr = None
        """
    )
    assert runner.run(True).stdout == b"before\n"
    assert runner.run(False).stdout == b"before\n"


# ---- large bodies


@both
def test_large_result_comes_in_a_file(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation).define("def compute(size): print('with output'); return b'x' * size")
    end = runner.run(3_000_000)
    assert end.result == b"x" * 3_000_000
    assert end.stdout == b"with output\n"
    assert Path(end.path).parent == runner.spool
    assert Path(end.path).stat().st_mode & 0o777 == 0o600
    assert runner.run(10).path == ""


def test_small_result_with_much_output_comes_in_a_file(make: Make) -> None:
    end = make().define("def compute(): print('x' * 100_000); return 1").run()
    assert end.result == 1
    assert end.stdout == b"x" * 100_000 + b"\n"
    assert end.path


@both
def test_large_arguments_come_from_a_file(make: Make, isolation: str, tmp_path: Path) -> None:
    runner = make(isolation=isolation).define("def compute(data): return len(data)")
    path = tmp_path / "arguments"
    path.write_bytes(pickle.dumps(((b"x" * 2_000_000,), {}), 5))
    runner.submit_body(1, os.fsencode(path), is_path=True)
    assert runner.end(1).result == 2_000_000
    assert not path.exists()
    path.write_bytes(b"")
    runner.submit_body(2, os.fsencode(path), is_path=True)
    assert runner.end(2).outcome == Outcome.BROKEN


def test_arguments_of_a_job_that_never_starts_are_removed(make: Make, tmp_path: Path) -> None:
    runner = make().define("def compute(data): pass", slots=0)
    path = tmp_path / "arguments"
    path.write_bytes(b"x")
    runner.submit_body(1, os.fsencode(path), is_path=True)
    runner.cancel(1)
    assert runner.end(1).outcome == Outcome.CANCELLED
    assert not path.exists()


def test_inline_arguments_up_to_the_limit(make: Make) -> None:
    runner = make(isolation="worker").define("def compute(data): return data", slots=2)
    jobs = [(job, 1, False, pickle.dumps(((b"x" * 64_000,), {}), 5)) for job in range(1, 41)]
    runner.send(frames.RUN, frames.pack_jobs(jobs))
    for job in range(1, 41):
        assert len(runner.end(job).result) == 64_000


def test_result_that_cannot_be_stored_is_told(make: Make) -> None:
    runner = make().define("def compute(): return b'x' * 1_000_000")
    runner.spool.rmdir()
    end = runner.run()
    assert end.outcome == Outcome.BROKEN
    assert "the job's result (" in end.detail
    assert "cannot be stored on node there" in end.detail


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_full_disk_is_told_and_the_file_removed(make: Make) -> None:
    runner = make().define(
        """
        import resource
        def compute():
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            return b"x" * 1_000_000
        """
    )
    end = runner.run()
    assert end.outcome == Outcome.BROKEN
    assert "cannot be stored on node there" in end.detail
    assert list(runner.spool.iterdir()) == []


# ---- slots and order


@both
def test_jobs_run_in_order_and_never_more_than_slots(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation).define(
        """
        import os, time
        def compute(number):
            open(f"running-{number}", "x").close()
            count = len([name for name in os.listdir() if name.startswith("running-")])
            time.sleep(0.02)
            os.unlink(f"running-{number}")
            return count
        """,
        slots=2,
    )
    for job in range(1, 13):
        runner.submit(job, job)
    counts = [runner.end(job).result for job in range(1, 13)]
    assert max(counts) == 2
    assert all(abs(job - place) <= 2 for place, job in enumerate(runner.order, 1))


def test_no_slots_no_jobs(make: Make) -> None:
    runner = make().define("def compute(): return 1", slots=0)
    runner.submit(1)
    runner.submit(2)
    runner.cancel(2)
    assert runner.end(2).outcome == Outcome.CANCELLED
    assert not runner.started
    assert (1, 1) not in runner.ends
    runner.send(frames.SLOTS, frames.COUNT.pack(1))
    assert runner.end(1).result == 1


@both
def test_fewer_slots_are_confirmed_when_jobs_have_ended(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation).define(
        """
        import os, time
        def compute(name):
            while not os.path.exists(name): time.sleep(0.01)
        """,
        slots=2,
    )
    for job, name in enumerate("abc", 1):
        runner.submit(job, name)
    runner.wait(lambda: len(runner.started) == 2)
    runner.send(frames.SLOTS, frames.COUNT.pack(1))
    (runner.folder / "a").touch()
    runner.end(1)
    runner.wait(lambda: runner.slots == [1])
    runner.send(frames.SLOTS, frames.COUNT.pack(0))
    for name in "bc":
        (runner.folder / name).touch()
    runner.end(2)
    runner.wait(lambda: runner.slots == [1, 0])
    assert (3, 1) not in runner.ends
    runner.send(frames.SLOTS, frames.COUNT.pack(1))
    runner.end(3)


def test_tiny_jobs_are_not_announced_and_long_ones_are(make: Make) -> None:
    runner = make(isolation="worker").define("import time\ndef compute(seconds): time.sleep(seconds)")
    for job in range(1, 201):
        runner.submit(job, 0)
    runner.submit(201, 0.3)
    runner.wait(lambda: 201 in runner.started)
    assert runner.end(200)
    assert (201, 1) not in runner.ends
    assert len(runner.started) < 100


def test_long_job_does_not_hold_up_those_behind_it(make: Make) -> None:
    runner = make(isolation="worker").define(
        """
        import os, time
        def compute(wait):
            while wait and not os.path.exists("go"): time.sleep(0.01)
            return os.getpid()
        """,
        slots=2,
    )
    for job in range(1, 101):
        runner.submit(job, False)
    runner.end(100)
    jobs = [(job, 1, False, pickle.dumps(((job == 101,), {}), 5)) for job in range(101, 132)]
    runner.send(frames.RUN, frames.pack_jobs(jobs))
    for job in range(102, 132):
        runner.end(job)
    assert (101, 1) not in runner.ends
    (runner.folder / "go").touch()
    long_worker = runner.end(101).result
    assert runner.run(False).result
    assert {runner.ends[job, 1].result for job in range(102, 132)} - {long_worker}


# ---- cancellation

WAIT_FOR_INTERRUPT = """
    import time
    def compute(catch):
        print("begun", flush=True)
        try:
            open("begun", "w").close()
            time.sleep(60)
        except KeyboardInterrupt:
            if catch: return "caught"
            raise
"""


@both
def test_cancelled_job_may_return_a_result(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation).define(WAIT_FOR_INTERRUPT)
    runner.submit(1, True)
    runner.wait_for_file("begun")
    runner.cancel(1)
    end = runner.end(1)
    assert end.result == "caught"
    assert end.stdout == b"begun\n"


@both
def test_cancelled_job_keeps_its_output(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation).define(WAIT_FOR_INTERRUPT)
    runner.submit(1, False)
    runner.wait_for_file("begun")
    runner.cancel(1)
    end = runner.end(1)
    assert (end.outcome, end.value, end.error, end.stdout) == (Outcome.CANCELLED, b"", "", b"begun\n")
    runner.submit(2, False)
    runner.cancel(2)
    assert runner.end(2).outcome == Outcome.CANCELLED


@both
def test_job_that_ignores_everything_is_killed(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation, cancel_grace_s=[0.1, 0.1]).define(
        """
        import signal, time
        def compute(stubborn):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("begun", flush=True)
            open("begun", "w").close()
            while stubborn: time.sleep(1)
        """
    )
    runner.submit(1, True)
    runner.wait_for_file("begun")
    runner.cancel(1)
    end = runner.end(1)
    assert (end.outcome, end.code, end.stdout) == (Outcome.CANCELLED, -signal.SIGKILL, b"begun\n")
    assert runner.run(False).result is None


def test_cancelled_jobs_ahead_in_a_worker_do_not_run(make: Make) -> None:
    runner = make(isolation="worker").define(
        """
        import os, time
        def compute(number):
            open(f"ran-{number}", "x").close()
            if number == 300:
                while not os.path.exists("go"): time.sleep(0.01)
        """
    )
    for job in range(1, 200):
        runner.submit(job, job)
    runner.end(199)
    jobs = [(job, 1, False, pickle.dumps(((job,), {}), 5)) for job in range(300, 310)]
    runner.send(frames.RUN, frames.pack_jobs(jobs))
    runner.wait(lambda: 300 in runner.started)
    for job in range(301, 309):
        runner.cancel(job)
    for job in range(301, 309):
        assert runner.end(job).outcome == Outcome.CANCELLED
    (runner.folder / "go").touch()
    assert runner.end(300).outcome == Outcome.RETURNED
    assert runner.end(309).outcome == Outcome.RETURNED
    assert not [name for name in os.listdir(runner.folder) if name in {f"ran-{n}" for n in range(301, 309)}]


@both
def test_cancelling_at_any_moment_harms_no_other_job(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation).define("def compute(number): return number", slots=2)
    jobs = range(1, 301)
    for job in jobs:
        runner.submit(job, job)
        if job % 3 == 0:
            runner.cancel(job - 1)
    for job in jobs:
        end = runner.end(job)
        if job % 3 == 2:
            assert end.outcome in (Outcome.RETURNED, Outcome.CANCELLED)
        else:
            assert end.result == job
    assert runner.run("after").result == "after"


# ---- trees of processes


@both
def test_grandchildren_are_killed(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation).define(
        """
        import os, subprocess
        def compute(die):
            near = subprocess.Popen(["sleep", "300"])
            far = subprocess.Popen(["sleep", "300"], start_new_session=True)
            parent = subprocess.run(["sh", "-c", "setsid sleep 300 >/dev/null & echo $!"], stdout=subprocess.PIPE)
            print(near.pid, far.pid, int(parent.stdout), flush=True)
            if die: os._exit(1)
        """
    )
    end = runner.run(isolation == "worker")
    for pid in map(int, end.stdout.split()):
        wait_until_dead(pid)


def test_grandchildren_of_a_living_job_are_left_alone(make: Make) -> None:
    runner = make().define(
        """
        import os, subprocess, time
        def compute(long):
            if not long: return
            run = subprocess.run(["sh", "-c", "setsid sleep 300 >/dev/null & echo $!"], stdout=subprocess.PIPE)
            print(int(run.stdout), flush=True)
            open("ready", "x").close()
            while not os.path.exists("go"): time.sleep(0.01)
            os.kill(int(run.stdout), 0)
        """,
        slots=2,
    )
    runner.submit(1, True)
    runner.wait(lambda: runner.started)
    runner.wait_for_file("ready")
    for job in range(2, 12):
        runner.submit(job, False)
        runner.end(job)
    (runner.folder / "go").touch()
    end = runner.end(1)
    assert end.result is None
    wait_until_dead(int(end.stdout))


def test_death_is_noticed_though_a_grandchild_holds_everything_open(make: Make) -> None:
    runner = make().define(
        """
        import os, time
        def compute():
            if os.fork() == 0:
                time.sleep(300)
                os._exit(0)
            os._exit(5)
        """
    )
    assert (runner.run().outcome, runner.ends[1, 1].code) == (Outcome.DIED, 5)


def test_worker_that_dies_gives_back_the_jobs_ahead(make: Make) -> None:
    runner = make(isolation="worker").define(
        """
        import os
        def compute(number):
            if number % 50 == 0: os._exit(9)
            return number
        """,
        slots=2,
    )
    jobs = [(job, 1, False, pickle.dumps(((job,), {}), 5)) for job in range(1, 401)]
    runner.send(frames.RUN, frames.pack_jobs(jobs))
    for job in range(1, 401):
        end = runner.end(job)
        if job % 50 == 0:
            assert (end.outcome, end.code) == (Outcome.DIED, 9)
        else:
            assert end.result == job


@both
def test_garbage_on_the_channel_harms_only_its_job(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation).define(
        """
        import os, stat
        def compute(garbage):
            for fd in range(3, 100):
                try:
                    if garbage and stat.S_ISSOCK(os.fstat(fd).st_mode): os.write(fd, garbage)
                except OSError: pass
            return "well"
        """
    )
    for garbage in (b"\xff" * 100, b"\x20\0\0\0\0" + b"x" * 32, b"\0"):
        end = runner.run(garbage)
        assert end.outcome == Outcome.BROKEN
        assert "garbled its result" in end.detail or "not its own" in end.detail
        assert runner.run(b"").result == "well"


# ---- the end of a runner


@both
def test_end_of_the_daemon_kills_everything(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation).define(
        """
        import os, signal, subprocess, time
        def compute():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            near = subprocess.Popen(["sleep", "300"])
            far = subprocess.Popen(["sleep", "300"], start_new_session=True)
            with open("pids.new", "w") as file: file.write(f"{os.getpid()} {near.pid} {far.pid}")
            os.rename("pids.new", "pids")
            time.sleep(300)
        """
    )
    runner.submit(1)
    runner.wait_for_file("pids")
    runner.control.close()
    assert runner.process.wait(PATIENCE_S) == 0
    for pid in map(int, (runner.folder / "pids").read_text().split()):
        wait_until_dead(pid)


@both
def test_close_waits_for_running_jobs(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation).define("import time\ndef compute(): time.sleep(0.3); return 'done'")
    runner.submit(1)
    runner.wait(lambda: runner.started)
    runner.send(frames.CLOSE, b"\0")
    assert runner.end(1).result == "done"
    assert runner.process.wait(PATIENCE_S) == 0


@both
def test_close_can_terminate(make: Make, isolation: str) -> None:
    runner = make(isolation=isolation).define("import time\ndef compute(): time.sleep(300)")
    runner.submit(1)
    runner.submit(2)
    runner.wait(lambda: runner.started)
    runner.send(frames.CLOSE, b"\1")
    assert runner.end(1).outcome == runner.end(2).outcome == Outcome.CANCELLED
    assert runner.process.wait(PATIENCE_S) == 0


def test_signals_from_elsewhere_do_not_end_a_runner(make: Make) -> None:
    runner = make().define("def compute(): return 1")
    for number in (signal.SIGINT, signal.SIGTERM):
        runner.process.send_signal(number)
    assert runner.run().result == 1


def test_jobs_end_with_a_runner_that_is_killed(make: Make) -> None:
    runner = make().define(
        """
        import os, time
        def compute():
            with open("pid.new", "w") as file: file.write(str(os.getpid()))
            os.rename("pid.new", "pid")
            time.sleep(300)
        """
    )
    runner.submit(1)
    runner.wait_for_file("pid")
    runner.process.kill()
    wait_until_dead(int((runner.folder / "pid").read_text()))


# ---- programs


def arguments(*given: str) -> bytes:
    return struct.pack("<I", len(given)) + b"".join(text.encode() + b"\0" for text in given)


def script(folder: Path, text: str, *, mode: int = 0o755) -> str:
    path = folder / "program"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_program(make: Make, tmp_path: Path) -> None:
    path = script(tmp_path, '#!/bin/sh\necho "$# $1 $2"\necho oops >&2\npwd\nexit $3\n')
    runner = make(program=[path]).load(b"program", slots=2)
    runner.submit_body(1, arguments("a b", "", "0"))
    end = runner.end(1)
    assert (end.outcome, end.code, end.value) == (Outcome.EXITED, 0, b"")
    assert end.stdout == f"3 a b \n{runner.folder}\n".encode()
    assert end.stderr == b"oops\n"
    runner.submit_body(2, arguments("ä", "x", "3"))
    assert (runner.end(2).outcome, runner.end(2).code) == (Outcome.EXITED, 3)


def test_program_killed_by_a_signal(make: Make, tmp_path: Path) -> None:
    runner = make(program=[script(tmp_path, "#!/bin/sh\nkill -9 $$\n")]).load(b"program")
    runner.submit_body(1, arguments())
    assert (runner.end(1).outcome, runner.end(1).code) == (Outcome.EXITED, -9)


def test_program_is_cancelled_with_what_it_started(make: Make, tmp_path: Path) -> None:
    runner = make(program=[script(tmp_path, "#!/bin/sh\necho begun\nsleep 300\necho ended\n")]).load(
        b"program"
    )
    runner.submit_body(1, arguments())
    runner.wait(lambda: runner.started)
    time.sleep(0.1)
    runner.cancel(1)
    end = runner.end(1)
    assert end.outcome == Outcome.CANCELLED
    assert end.stdout == b"begun\n"


def test_program_sees_default_signals(make: Make, tmp_path: Path) -> None:
    text = f"#!{sys.executable}\nimport os\nprint([line for line in open('/proc/self/status') if 'Sig' in line])\n"
    runner = make(program=[script(tmp_path, text)]).load(b"program")
    runner.submit_body(1, arguments())
    told = runner.end(1).stdout.decode()
    blocked = told.split("SigBlk:\\t")[1].split("\\n")[0]
    assert int(blocked, 16) == 0


@pytest.mark.parametrize(
    ("text", "mode", "detail"),
    [
        ("#!/bin/sh\n", 0o644, "may not be executed on node there"),
        ("not a program", 0o755, "has a format that node there"),
        ("#!/no/such/interpreter\n", 0o755, "needs '/no/such/interpreter', which is not on node there"),
        (None, 0, "is not on node there"),
    ],
)
def test_program_that_cannot_be_executed(
    make: Make, tmp_path: Path, text: str | None, mode: int, detail: str
) -> None:
    path = script(tmp_path, text, mode=mode) if text is not None else str(tmp_path / "missing")
    runner = make(program=[path]).load(b"program")
    runner.submit_body(1, arguments())
    end = runner.end(1)
    assert end.outcome == Outcome.BROKEN
    assert repr(path) in end.detail
    assert detail in end.detail


# ---- a machine at its limits


@pytest.mark.parametrize("slots", [1, 3])
def test_no_more_descriptors(make: Make, slots: int) -> None:
    runner = make().define("def compute(): return 1", slots=0)
    pid = runner.process.pid
    import resource

    used = len(os.listdir(f"/proc/{pid}/fd"))
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 3, hard))
    runner.send(frames.SLOTS, frames.COUNT.pack(slots))
    runner.submit(1)
    runner.wait(lambda: runner.logs)
    assert "raise its limit of open files (ulimit -n)" in runner.logs[0]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert runner.end(1).result == 1


def test_no_process_for_long_breaks_the_job(make: Make) -> None:
    runner = make().define("def compute(): return 1", slots=0)
    import resource

    resource.prlimit(runner.process.pid, resource.RLIMIT_NOFILE, (8, 8))
    runner.send(frames.SLOTS, frames.COUNT.pack(1))
    runner.submit(1)
    end = runner.end(1)
    assert end.outcome == Outcome.BROKEN
    assert "no process can be started on node there" in end.detail
