"""Install the wheels of a folder into empty environments, as users would, and run a program in each.

    python scripts/install_check.py DIST

Five environments are made in a temporary folder: the bare core, and the extras ``tcp``, ``ssl``, ``local`` and
``all``. The program of the bare core must be told which pip line to type; those of ``tcp`` and ``ssl`` use nodes that
run in the environment of ``all``, an open one and one with the key of this user; that of ``local`` starts its own.
Exits with status 1 if anything is not as it should be.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

BARE = """
import sys
import dispy
from dispy.errors import PluginNotInstalled

assert "trio" not in sys.modules, "import dispy imports trio"

def compute(number):
    return number * number

try:
    dispy.JobCluster(compute)
except PluginNotInstalled as error:
    assert "pip install 'dispy-core[" in str(error), f"no pip line in: {error}"
    print("as it should be:", error)
else:
    sys.exit("a cluster could be made although there is no transport")
"""

SQUARES = """
import sys
import dispy

def compute(number):
    print("number", number)
    return number * number

if __name__ == "__main__":
    options = {"nodes": sys.argv[1:2]} if sys.argv[1:] else {}
    if sys.argv[2:] == ["open"]:
        options["secret"] = dispy.OPEN
    with dispy.JobCluster(compute, **options) as cluster:
        jobs = [cluster.submit(number) for number in range(20)]
        results = [job() for job in jobs]
        assert results == [number * number for number in range(20)], (results, jobs[0].exception)
        assert jobs[3].stdout.strip() == "number 3", jobs[3].stdout
        cluster.print_status()
"""

PROGRAM = "#!/bin/sh\necho got $1\n"

START_TIMEOUT_S = 20


def main(dist: Path) -> None:
    """Check the wheels in *dist*."""
    with tempfile.TemporaryDirectory(prefix="dispy-install-") as name:
        folder = Path(name)
        constraints = folder / "constraints.txt"
        constraints.write_text("".join(f"{line}\n" for line in wheel_versions(dist)))
        environments = {
            extra: make_environment(folder / (extra or "bare"), extra, dist, constraints)
            for extra in ("", "tcp", "ssl", "local", "all")
        }
        home = folder / "home"
        home.mkdir()
        run_program(environments[""], home, BARE)
        with node(environments["all"], home, "--open") as address:
            run_program(environments["tcp"], home, SQUARES, address, "open")
        with node(environments["all"], home) as address:
            run_program(environments["ssl"], home, SQUARES, address)
        run_program(environments["local"], home, SQUARES)
        run_program(environments["all"], home, SQUARES)
        check_commands(environments["all"], home)


def wheel_versions(dist: Path) -> list[str]:
    """Pin each distribution of the checkout to the version of its wheel."""
    wheels = sorted(dist.glob("*.whl"))
    if not wheels:
        sys.exit(f"no wheels in {dist}: build them first, with: nox -s build")
    return [
        "{}=={}".format(*wheel.name.replace("_", "-", 2).split("-py3-")[0].rsplit("-", 1)) for wheel in wheels
    ]


def make_environment(folder: Path, extra: str, dist: Path, constraints: Path) -> Path:
    """Make an environment with the core and one extra; return its folder of programs."""
    print(f"install_check: installing dispy-core[{extra}]", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    programs = folder / "bin"
    requirement = f"dispy-core[{extra}]" if extra else "dispy-core"
    pip = [str(programs / "python"), "-m", "pip", "--disable-pip-version-check"]
    options = ["--quiet", "--find-links", str(dist), "--constraint", str(constraints)]
    subprocess.run([*pip, "install", *options, requirement], check=True)
    subprocess.run([*pip, "check"], check=True)
    return programs


def environment_variables(programs: Path, home: Path) -> dict[str, str]:
    """Return an environment without anything of the checkout or the user's settings, for this machine alone."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "XDG_", "DISPY"))
    }
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "HOME": str(home), "PATH": path, "DISPY_INTERFACES": "lo"}


def run_program(programs: Path, home: Path, text: str, *arguments: str) -> None:
    """Run a Python program in an environment and an empty folder."""
    print(f"install_check: running a program in {programs.parent.name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "program.py"
        script.write_text(text)
        run(programs, home, Path(folder), "python", str(script), *arguments)


def run(programs: Path, home: Path, folder: Path, name: str, *arguments: str) -> str:
    """Run a command of an environment; return what it printed, or end this script if it fails."""
    done = subprocess.run(
        [str(programs / name), *arguments],
        cwd=folder,
        env=environment_variables(programs, home),
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(f"install_check: {name} ended with status {done.returncode} in {programs.parent.name}")
    return done.stdout


@contextlib.contextmanager
def node(programs: Path, home: Path, *options: str) -> Iterator[str]:
    """Run a node with *options* on a free port of the loopback interface; give its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [
        str(programs / "dispy"),
        "node",
        "--host",
        "127.0.0.1",
        "--dispy_port",
        str(port - 1),
        *options,
    ]
    process = subprocess.Popen(
        command, env=environment_variables(programs, home), stdin=subprocess.DEVNULL, cwd=home
    )
    try:
        wait_listening(process, port)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        status = process.wait(START_TIMEOUT_S)
    if status:
        sys.exit(f"install_check: the node ended with status {status}")


def wait_listening(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until *process* accepts connections on *port*."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"install_check: no node on port {port}: {error}")
            time.sleep(0.05)
        else:
            return


def check_commands(programs: Path, home: Path) -> None:
    """Run the commands that the wheels install."""
    print(f"install_check: commands of {programs.parent.name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program"
        program.write_text(PROGRAM)
        program.chmod(0o755)
        run(programs, home, Path(folder), "dispy", "--version")
        run(programs, home, Path(folder), "dispy", "plugins")
        run(programs, home, Path(folder), "dispynode", "--help")
        printed = run(programs, home, Path(folder), "dispy", "run", "-a", "one", "-a", "two", str(program))
        if not ("got one" in printed and "got two" in printed):
            sys.exit("install_check: dispy run did not print what the program printed")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve())
