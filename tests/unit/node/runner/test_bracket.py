"""Setup and cleanup in an interpreter of their own each time: they may end it."""

from __future__ import annotations

import pytest

BRACKET = """
import pickle, signal, socket, sys, tempfile
from dispy_node.runner import frames
from dispy_node.runner.bracket import Bracket
from dispy_node.runner.namespace import Computation
from dispy_node.runner.settings import Settings

daemon, control = socket.socketpair()
folder = os.path.realpath(tempfile.mkdtemp())
os.chdir(folder)
settings = Settings({"folder": folder, "spool": folder, "node": "there"})

def make(setup=None, cleanup=None, *args, data=None):
    computation = Computation(print, {}, setup=setup, cleanup=cleanup)
    packed = pickle.dumps((args, {}), 5) if args else b""
    return Bracket(computation, packed if data is None else data, settings, control.fileno())

def heard():
    return frames.FrameReader().feed(daemon.recv(1 << 16))

told = None
"""


def test_both_get_the_arguments_and_the_daemon_is_told(run_script) -> None:
    run_script(
        BRACKET
        + """
calls = []
def setup(*args):
    calls.append(("setup", args, os.getcwd()))
    return 0
def cleanup(*args):
    calls.append(("cleanup", args, os.getcwd()))
bracket = make(setup, cleanup, 1, "two")
assert bracket.begin() == ""
assert heard() == [(frames.SETUP, b"")]
assert bracket.end() == ""
assert heard() == [(frames.CLEANUP, b"")]
assert calls == [("setup", (1, "two"), folder), ("cleanup", (1, "two"), folder)]
"""
    )


@pytest.mark.parametrize("value", ["0", "1", "2", "False"])
def test_good_values(run_script, value: str) -> None:
    run_script(BRACKET + f"assert make(lambda: {value}).begin() == ''\n")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("None", "setup has returned None on node there"),
        ("3", "setup has returned 3"),
        ("-1", "setup has returned -1"),
        ("0.0", "setup has returned 0.0"),
        ("'0' * 500", "setup has returned '000"),
        ("open('missing')", "setup has failed on node there (Python"),
        ("__import__('nowhere_found')", "module 'nowhere_found' is not installed on node there"),
        ("sys.exit('why')", "setup has called sys.exit('why') on node there"),
        ("sys.exit()", "setup has called sys.exit() on node there"),
        ("signal.raise_signal(signal.SIGINT)", "KeyboardInterrupt"),
    ],
)
def test_failures(run_script, body: str, text: str) -> None:
    run_script(
        BRACKET
        + f"""
def setup():
    return {body}
failure = make(setup).begin()
assert {text!r} in failure, failure
assert len(failure) < 2000
"""
    )


def test_traceback_is_that_of_the_user_and_its_end_only(run_script) -> None:
    run_script(
        BRACKET
        + """
def down(depth):
    return 1 / depth if not depth else further(depth - 1)
def further(depth):
    return down(depth)
lines = make(lambda: down(40)).begin().split("\\n")
assert lines[0].startswith("setup has failed on node there"), lines
assert lines[0].endswith("ZeroDivisionError: division by zero"), lines
assert lines[1] == "    ..."
assert len(lines) == 14
assert lines[-1] == "    ZeroDivisionError: division by zero"
short = make(lambda: 1 / 0).begin()
assert "bracket.py" not in short, short
"""
    )


def test_objects_that_cannot_be_shown_harm_nothing(run_script) -> None:
    run_script(
        BRACKET
        + """
class Odd(Exception):
    def __repr__(self):
        raise OSError("no")
    __str__ = __repr__
def setup():
    raise Odd
assert "its text cannot be made: OSError" in make(setup).begin()
assert "something of type Odd (OSError: no)" in make(Odd).begin()
"""
    )


def test_arguments_that_cannot_be_loaded(run_script) -> None:
    run_script(
        BRACKET
        + """
calls = []
bracket = make(lambda *args: 0, lambda *args: calls.append(args), data=b"\\x80\\x05c__main__\\nNothing\\n.")
failure = bracket.begin()
assert failure.startswith("setup_args cannot be loaded on node there"), failure
assert "depends" in failure
assert bracket.end() == ""
assert calls == [], "without its arguments it cannot be called"
"""
    )


def test_what_jobs_rely_on_is_put_back(run_script) -> None:
    run_script(
        BRACKET
        + """
import io
out = sys.stdout
def setup():
    os.chdir("/")
    sys.stdout = io.StringIO()
    return 0
assert make(setup).begin() == ""
assert (os.getcwd(), sys.stdout) == (folder, out)
def close():
    sys.stderr.close()
    return 0
assert make(close).begin() == ""
print("can be written", file=sys.stderr, flush=True)
def remove():
    os.rmdir(folder)
    return 0
assert "has made the folder of the computation unusable: FileNotFoundError" in make(remove).begin()
"""
    )


def test_a_child_that_setup_forks_does_not_become_a_runner(run_script) -> None:
    run_script(
        BRACKET
        + """
def setup():
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return 0
assert make(setup).begin() == ""
assert heard() == [(frames.SETUP, b"")]
control.close()
assert daemon.recv(1) == b"", "nobody has it open"
"""
    )


def test_failure_of_cleanup_is_told_and_exit_handlers_run(run_script) -> None:
    run_script(
        BRACKET
        + """
import atexit
def setup():
    global held
    held = tempfile.TemporaryDirectory()
    atexit.register(lambda: 1 / 0)
    return 0
def cleanup():
    raise ValueError("still in use")
bracket = make(setup, cleanup)
bracket.begin()
failure = bracket.end()
assert failure.startswith("cleanup has failed on node there"), failure
assert heard() == [(frames.SETUP, b""), (frames.CLEANUP, b""), (frames.CLEANUP, failure.encode())]
assert not os.path.exists(held.name)
"""
    )


def test_cleanup_runs_for_a_daemon_that_is_gone(run_script) -> None:
    run_script(
        BRACKET
        + """
calls = []
def cleanup():
    print("nobody reads this", flush=True)
    calls.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
bracket = make(None, cleanup)
assert bracket.begin() == ""
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))  # as the runner does
daemon.close()
reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, 1)
assert bracket.end() == ""
assert calls == [set()]
"""
    )


def test_cleanup_that_does_not_end_is_ended(run_script) -> None:
    run_script(
        BRACKET
        + """
from dispy_node.runner import bracket as module
module.CLEANUP_S = 1
child = os.fork()
if not child:
    bracket = make(None, signal.pause)
    bracket.begin()
    bracket.end()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGALRM
"""
    )


def test_cleanup_can_have_the_node_end(run_script) -> None:
    run_script(
        BRACKET
        + """
from dispy_node.runner.inside import Inside
inside = Inside(settings)
def setup():
    try:
        inside.shutdown()
    except RuntimeError:
        return 0
def cleanup():
    inside.shutdown()
bracket = Bracket(Computation(print, {}, setup=setup, cleanup=cleanup, inside=inside), b"", settings, control.fileno())
assert bracket.begin() == ""
assert bracket.end() == ""
assert heard() == [(frames.SETUP, b""), (frames.CLEANUP, b""), (frames.SHUTDOWN, b"")]
"""
    )
