"""The ``dispy`` program as users have it: processes, files, signals, a terminal, and nodes that really run."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

DISPY = [sys.executable, "-c", "import sys; sys.argv[0] = 'dispy'; from dispy_cli.main import main; main()"]
NODE = [sys.executable, "-c", "from dispy_node.command import main; main()"]
SCRIPT = Path(__file__).parents[2] / "packages" / "cli" / "scripts" / "dispy.py"
LONG_S = 60
"""Bound on whatever is waited for; a busy machine takes its time."""

WORK = """\
#!/bin/sh
echo "$# arguments: $*"
cat file1 file2
echo "said by $1" >&2
case "$1" in [0-9]*) exit "$1";; esac
"""


def dispy(
    *arguments: str, cwd: Path | None = None, stdin: bytes = b"", **options: object
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*DISPY, *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        timeout=LONG_S,
        check=False,
        **options,
    )  # type: ignore[call-overload]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with a program and two files that it needs."""
    program = tmp_path / "work"
    program.write_text(WORK)
    program.chmod(0o755)
    (tmp_path / "file1").write_text("one\n")
    (tmp_path / "file2").write_text("two\n")
    return tmp_path


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a node on a free port of the loopback interface; give its ``host:port``."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    state = str(tmp_path_factory.mktemp("state"))
    command = [*NODE, "-p", str(port - 1), "-c", "2", "--name", "workhorse", "--dest_path_prefix", state]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            wait_listening(process, port)
            yield f"127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)
            process.wait(LONG_S)


def wait_listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + LONG_S
    while True:
        assert process.poll() is None, "the node has ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "the node does not listen"
            time.sleep(0.05)
        else:
            return


@pytest.fixture
def closed_port() -> int:
    """Give a port where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def after(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    assert found, text
    return found[0]


# ---- without nodes


def test_help_imports_nothing_heavy() -> None:
    """Names and one-line helps are all that is needed, so neither trio nor rich nor a node's insides are."""
    check = (
        "import sys\n"
        "from dispy_cli.umbrella import make_umbrella, run_umbrella\n"
        "status = run_umbrella(make_umbrella(), ['--help'], 'dispy')\n"
        "heavy = {'trio', 'rich', 'cloudpickle', 'psutil', 'dispy_node.daemon', 'dispy_cli.run'}\n"
        "sys.exit(status or ', '.join(sorted(heavy & sys.modules.keys())) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, timeout=LONG_S, check=False
    )
    assert done.returncode == 0, done.stderr
    for command in ("run", "node", "nodes", "plugins", "completion"):
        assert re.search(rf"^  {command} ", done.stdout, re.M), done.stdout


def test_version() -> None:
    assert re.fullmatch(rb"dispy \d+\.\S+\n", dispy("--version").stdout)


def test_plugins_of_this_installation_are_all_well() -> None:
    done = dispy("plugins", "--json")
    assert done.returncode == 0, done.stdout
    found = {info["dist"]: info for info in json.loads(done.stdout)}
    assert {"dispy-core", "dispy-cli", "dispy-node", "dispy-transport-tcp"} <= found.keys()
    assert "dispy_register_transport" in found["dispy-transport-tcp"]["hooks"]


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_bash_completes_with_the_script() -> None:
    script = dispy("completion", "bash").stdout.decode()
    assert "_DISPY_COMPLETE=bash_complete" in script
    done = subprocess.run(
        ["bash", "-c", f"set -e\n{script}\ncomplete -p dispy"],
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "_dispy_completion" in done.stdout


@pytest.mark.parametrize("arguments", [["run", "work"], ["run", "-a", "x"], ["-a", "'x", "work"], ["wrok"]])
def test_wrong_usage_is_status_2(folder: Path, arguments: list[str]) -> None:
    done = dispy(*arguments, cwd=folder)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr


def test_program_that_is_not_there_is_status_2(folder: Path) -> None:
    done = dispy("run", "-a", "x", "./no-such-program", cwd=folder)
    assert done.returncode == 2
    assert b"no-such-program" in done.stderr
    assert b"Traceback" not in done.stderr


def test_no_node_is_status_3_and_says_why(folder: Path, closed_port: int) -> None:
    options = ["-n", f"127.0.0.1:{closed_port}", "--wait-nodes", "0.5", "-a", "x"]
    done = dispy("run", *options, "./work", cwd=folder)
    assert done.returncode == 3, done.stderr
    assert done.stdout == b""
    assert f"127.0.0.1:{closed_port}".encode() in done.stderr
    assert b"Traceback" not in done.stderr


def test_nodes_that_do_not_answer_are_status_3(closed_port: int) -> None:
    done = dispy("nodes", "-n", f"127.0.0.1:{closed_port}")
    assert done.returncode == 3
    assert done.stdout == b""
    assert f"no node at 127.0.0.1:{closed_port}".encode() in done.stderr


def test_foreign_server_is_no_node() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with subprocess.Popen(
            [*DISPY, "nodes", "-n", f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            server.settimeout(LONG_S)
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            _, told = process.communicate(timeout=LONG_S)
    assert process.returncode == 3
    assert b"no node at" in told
    assert b"Traceback" not in told


# ---- with the node of this machine


def test_first_example_of_the_founding_document(folder: Path) -> None:
    options = ["-f", "file1", "-f", str(folder / "file2"), "-n", "local"]
    done = dispy(*options, "-a", "arg11 arg12", "-a", "arg21 arg22", "-a", "arg3", "./work", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == (
        "2 arguments: arg11 arg12\none\ntwo\n"
        "2 arguments: arg21 arg22\none\ntwo\n"
        "1 arguments: arg3\none\ntwo\n"
    )
    told = done.stderr.decode()
    assert told.startswith("said by arg11\nsaid by arg21\nsaid by arg3\ndispy: 3 jobs, none failed, ")


def test_without_nodes_this_machine_is_used_and_that_is_said(folder: Path, closed_port: int) -> None:
    # A base port with nothing on it, so that a node that happens to run here is not found.
    options = ["-p", str(closed_port - 1), "-f", "file1", "-f", "file2", "-a", "x"]
    done = dispy("run", *options, "./work", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"1 arguments: x\n")
    assert b"this machine" in done.stderr


def test_failed_job_is_status_1_and_told(folder: Path) -> None:
    options = ["-n", "local", "-f", "file1", "-f", "file2"]
    done = dispy("run", *options, "-a", "0", "-a", "7 x", "-a", "y", "./work", cwd=folder)
    assert done.returncode == 1
    assert b"dispy: job 2 (7 x): exit status 7\n" in done.stderr
    assert done.stdout.count(b"arguments: ") == 3


def test_json_with_output_that_is_no_text(tmp_path: Path) -> None:
    program = tmp_path / "bytes"
    program.write_text("#!/bin/sh\nprintf '\\377'\nkill -9 $$\n")
    program.chmod(0o755)
    done = dispy("run", "--json", "-q", "-n", "local", "-a", "a 'b c'", "./bytes", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stderr == b""
    (told,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert told["job"] == 1
    assert told["arguments"] == ["a", "b c"]
    assert told["exit_status"] == -9
    assert (told["stdout"], told["stdout_base64"]) == ("\ufffd", "/w==")
    assert told["address"]
    assert told["end_time"] >= told["start_time"] > 0


def test_stdin_gives_jobs_and_results_come_before_its_end(folder: Path) -> None:
    options = ["run", "-q", "-n", "local", "-f", "file1", "-f", "file2", "-a", "-", "./work"]
    with subprocess.Popen(
        [*DISPY, *options],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"a b\n\n")
        process.stdin.flush()
        assert read_some(process.stdout.fileno()).startswith(b"2 arguments: a b\n")
        process.stdin.write(b"c")
        rest, _ = process.communicate(timeout=LONG_S)
    assert rest.endswith(b"1 arguments: c\none\ntwo\n")
    assert process.returncode == 0


def read_some(descriptor: int) -> bytes:
    ready, _, _ = select.select([descriptor], [], [], LONG_S)
    assert ready, "nothing was written"
    return os.read(descriptor, 65536)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt_ends_the_jobs_and_the_program(tmp_path: Path, number: signal.Signals, status: int) -> None:
    program = tmp_path / "sleeper"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    program.chmod(0o755)
    with subprocess.Popen(
        [*DISPY, "run", "-n", "local", "-a", "x", "./sleeper"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        pid = wait_for_number(tmp_path / "pid", process)
        began = time.monotonic()
        process.send_signal(number)
        _, told = process.communicate(timeout=LONG_S)
        took_s = time.monotonic() - began
    assert process.returncode == status, told
    assert b"interrupted after 0 jobs" in told
    assert b"Traceback" not in told
    assert took_s < 30
    assert not is_running(pid)


def wait_for_number(path: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + LONG_S
    while not (path.exists() and path.read_text().endswith("\n")):
        assert process.poll() is None, "the program has ended"
        assert time.monotonic() < deadline, "the job did not start"
        time.sleep(0.02)
    return int(path.read_text())


def is_running(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_reader_that_goes_away_ends_it_without_a_traceback(folder: Path) -> None:
    options = ["run", "-n", "local", "-f", "file1", "-f", "file2", "-a", "-", "./work"]
    with subprocess.Popen(
        [*DISPY, *options], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"a\n")
        process.stdin.flush()
        read_some(process.stdout.fileno())
        process.stdout.close()
        process.stdin.write(b"b\n" * 20)
        process.stdin.flush()
        # Standard input stays open: the program must not wait for it.
        assert process.wait(LONG_S) == 1
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
        process.stdin.close()


def test_progress_is_drawn_on_a_terminal_and_gone_at_the_end(tmp_path: Path) -> None:
    program = tmp_path / "slow"
    program.write_text("#!/bin/sh\nsleep 1\necho done $1\n")
    program.chmod(0o755)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*DISPY, "run", "-n", "local", "-a", "1", "-a", "2", "./slow"],
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        drawn = read_terminal(ours)
        assert process.stdout is not None
        assert process.stdout.read() == b"done 1\ndone 2\n"
    assert process.returncode == 0
    assert re.search(r"\d/2 jobs", drawn), drawn
    last = drawn.rpartition("\x1b[2K")[2]
    assert re.fullmatch(r"dispy: 2 jobs, none failed, \d+\.\d s\r\n", last), drawn


def read_terminal(descriptor: int) -> str:
    parts = []
    with open(descriptor, "rb", buffering=0) as terminal:
        while True:
            try:
                part = terminal.read(65536)
            except OSError:  # that is how Linux tells the end of a terminal
                break
            if not part:
                break
            parts.append(part)
    return b"".join(parts).decode()


# ---- with a node that listens


def test_jobs_run_at_a_node_that_is_named(folder: Path, node: str) -> None:
    options = ["-n", node, "-f", "file1", "-f", "file2", "--json", "-q"]
    done = dispy("run", *options, "-a", "x", "-a", "y", "./work", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["node"] for line in done.stdout.splitlines()] == ["workhorse"] * 2


def test_node_is_listed(node: str) -> None:
    done = dispy("nodes", "-n", node)
    assert done.returncode == 0, done.stderr
    assert after(done.stdout.decode(), rf"workhorse +{re.escape(node)} +open +2 ")
    (told,) = json.loads(dispy("nodes", "-n", node, "--json").stdout)
    assert (told["node"], told["slots"], told["address"]) == ("workhorse", 2, "127.0.0.1")
    assert told["memory_free_bytes"] > 0
    assert told["error"] is None


# ---- the script dispy.py


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """Give a folder of scripts with dispy.py in it, as an installation makes it."""
    made = tmp_path / "scripts"
    made.mkdir()
    shutil.copy(SCRIPT, made)
    return made


def python(script: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
        **options,
    )  # type: ignore[call-overload]


def test_dispy_py_is_the_program(scripts: Path) -> None:
    done = python(scripts / "dispy.py", "--version")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"dispy \d+\.\S+\n", done.stdout)
    assert "Usage: dispy.py run " in python(scripts / "dispy.py", "run", "--help").stdout


CHECK = """\
import sys
import dispy
import dispy.errors
import neighbour

assert hasattr(dispy, "JobCluster"), dispy
assert sys.modules["dispy"] is dispy
assert dispy.__spec__.name == "dispy"
assert neighbour.cluster is dispy.JobCluster
from dispy import JobCluster
print("ok", dispy.errors.DispyError.__name__)
"""


def test_script_beside_dispy_py_gets_the_package(scripts: Path) -> None:
    (scripts / "check.py").write_text(CHECK)
    (scripts / "neighbour.py").write_text("from dispy import JobCluster as cluster\n")
    done = python(scripts / "check.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ok DispyError\n"


def test_package_is_found_past_two_such_scripts(scripts: Path, tmp_path: Path) -> None:
    (scripts / "check.py").write_text(CHECK)
    (scripts / "neighbour.py").write_text("from dispy import JobCluster as cluster\n")
    other = tmp_path / "other"
    other.mkdir()
    (other / "dispy.py").symlink_to(scripts / "dispy.py")
    path = os.pathsep.join([str(other), os.environ.get("PYTHONPATH", "")])
    done = python(scripts / "check.py", env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr


def test_without_the_package_the_error_names_it(scripts: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(scripts)!r}); import dispy"],
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )
    assert done.returncode == 1
    assert "No module named 'dispy'" in done.stderr
