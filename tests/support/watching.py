"""Watches all tests of a run, and fails it at its end: figures X9 and X11 of our guarantees.

X9: no key stands in an argument or an environment variable of any process, or in what any process logs. Keys are
those that tests make (`DISPY_CONFIG_DIR`), in each form in which bytes are written; passphrases are those that a
test gives to `keep_secret`.

X11: daemons neither unpickle nor run code; see `audit/sitecustomize.py`, which is in each node that tests start.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import logging
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

AUDIT_FOLDER = Path(__file__).with_name("audit")
INTERVAL_S = 0.2
"""Between two looks at all processes. Most processes of a test live longer."""

KEY_PREFIX = "dispy1-"
OWN_VARIABLE = b"DISPY_SECRET="
"""A user may put a secret there, for one process; tests look that it goes no further."""

FORMS_MIN = 12
"""Shorter forms of a secret would be found by chance."""


class Watch:
    """What is known so far in this run."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.hits: dict[str, None] = {}
        self.forms: dict[bytes, str] = {}
        """What must not be seen -> what it is, for the report."""
        self.passphrases: dict[bytes, str] = {}
        """The same, for what may stand in the command line or the variable that a test itself writes."""
        self.read_files: set[tuple[str, int]] = set()
        self.expected: set[int] = set()
        self.processes: dict[str, tuple[object, ...]] = {}
        """What each had when it was looked at last, not to search the same again."""
        self.processes_seen = 0
        self.logs_seen = 0
        self.ended = threading.Event()

    def hit(self, what: str, where: str) -> None:
        """Note that a secret was seen."""
        with self.lock:
            self.hits[f"{what} in {where}"] = None


WATCH = Watch()


def forms_of(data: bytes) -> list[bytes]:
    """Return the ways in which a secret may be written."""
    encoded = (
        data.hex(),
        base64.b32encode(data).decode().rstrip("="),
        base64.b64encode(data).decode().rstrip("="),
        base64.urlsafe_b64encode(data).decode().rstrip("="),
        repr(data)[2:-1],
    )
    texts = {form for text in encoded for form in (text, text.lower(), text.upper())}
    return [data, *(text.encode() for text in sorted(texts) if len(text) >= FORMS_MIN)]


def keep_secret(secret: str) -> str:
    """Have a passphrase looked for until the end of the run; return it."""
    WATCH.passphrases.update(dict.fromkeys(forms_of(secret.encode()), "a passphrase"))
    return secret


def learn_keys(folder: str) -> None:
    """Take note of the keys in a folder of keys."""
    path = os.path.join(folder, "key")
    with contextlib.suppress(OSError):
        changed = os.stat(path).st_mtime_ns
        if (path, changed) in WATCH.read_files:
            return
        WATCH.read_files.add((path, changed))
        for line in Path(path).read_text().splitlines():
            if line.startswith(KEY_PREFIX):
                learn_key(line.strip())


def learn_key(text: str) -> None:
    """Take note of a key."""
    encoded = text.removeprefix(KEY_PREFIX).upper()
    try:
        data = base64.b32decode(encoded + "=" * (-len(encoded) % 8))[:32]
    except ValueError:
        return  # a test has put something wrong there
    # Keys that tests write down, such as 32 zeros, occur by themselves in what other tests print.
    if len(data) == 32 and len(set(data)) > 8:
        WATCH.forms.update(
            dict.fromkeys([encoded.lower().encode(), encoded.encode(), *forms_of(data)], "a key")
        )


def look_into(text: str | bytes, where: str) -> None:
    """Search what a process has written."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    learn_keys(os.environ.get("DISPY_CONFIG_DIR", ""))
    WATCH.logs_seen += 1
    for form, what in (*tuple(WATCH.forms.items()), *WATCH.passphrases.items()):
        if form in data:
            WATCH.hit(what, where)


def expect_audit(pid: int) -> None:
    """The process is a node, and must have been watched from inside."""
    WATCH.expected.add(pid)


def _look_at_processes() -> None:
    learn_keys(os.environ.get("DISPY_CONFIG_DIR", ""))
    if not WATCH.forms and not WATCH.passphrases:
        return
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            _look_at(pid)


def _look_at(pid: str) -> None:
    arguments = Path("/proc", pid, "cmdline").read_bytes()
    try:
        variables = Path("/proc", pid, "environ").read_bytes().split(b"\0")
    except PermissionError:  # a node hides it from all but root
        variables = []
    environment = b"\0".join(one for one in variables if not one.startswith(OWN_VARIABLE))
    keys, passphrases = tuple(WATCH.forms.items()), tuple(WATCH.passphrases.items())
    state = (arguments, environment, len(keys), len(passphrases))
    if WATCH.processes.get(pid) == state:
        return
    WATCH.processes[pid] = state
    WATCH.processes_seen += 1
    name = f"process {pid}: {os.fsdecode(arguments.replace(bytes(1), b' '))[:100]}"
    for form, what in keys:
        if form in arguments:
            WATCH.hit(what, f"the arguments of {name}")
    for form, what in (*keys, *passphrases):
        if form in environment:
            WATCH.hit(what, f"the environment of {name}")


def _keep_looking() -> None:
    while not WATCH.ended.wait(INTERVAL_S):
        _look_at_processes()


class _LogSearch(logging.Handler):
    """Searches what clients in this process log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Search one record."""
        with contextlib.suppress(
            TypeError, ValueError
        ):  # wrong arguments, which logging itself complains about
            look_into(self.format(record), f"the log of this process: {record.name}")


@contextlib.contextmanager
def _outputs_searched() -> Iterator[None]:
    """Search what programs print that a test runs and whose output it captures."""
    usual = subprocess.Popen.communicate

    def communicate(process: subprocess.Popen[Any], *args: Any, **keywords: Any) -> tuple[Any, Any]:
        told = usual(process, *args, **keywords)
        words = process.args if isinstance(process.args, list | tuple) else [process.args]
        is_show = {"key", "show"} <= {str(word) for word in words}  # whose purpose it is
        for part in told:
            if part and not is_show:
                look_into(part, f"the output of {' '.join(map(str, words))[:100]}")
        return told

    subprocess.Popen.communicate = communicate  # type: ignore[method-assign]
    try:
        yield
    finally:
        subprocess.Popen.communicate = usual  # type: ignore[method-assign]


class Found(NamedTuple):
    """What was seen; that of workers is added up, if several share the tests."""

    keys: dict[str, None] = {}
    troubles: tuple[str, ...] = ()
    processes: int = 0
    logs: int = 0
    daemons: int = 0

    def __add__(self, other: Found) -> Found:  # type: ignore[override]
        """Return both together."""
        numbers = (mine + others for mine, others in zip(self[1:], other[1:], strict=True))
        return Found({**self.keys, **other.keys}, *numbers)


OF_WORKERS: list[Found] = []


def found_here() -> Found:
    """Return what this process has seen."""
    daemons = len({line[1] for line in audit_lines() if line[0] == "armed"})
    return Found(WATCH.hits, tuple(audit_troubles()), WATCH.processes_seen, WATCH.logs_seen, daemons)


def audit_lines() -> list[list[str]]:
    """Return what nodes have told so far, each line in words."""
    with contextlib.suppress(FileNotFoundError):
        return [line.split(" ", 3) for line in Path(os.environ["DISPY_TEST_AUDIT"]).read_text().splitlines()]
    return []


def audit_troubles() -> list[str]:
    """Return what is wrong by the audit of nodes."""
    lines = audit_lines()
    armed = {int(line[1]) for line in lines if line[0] == "armed"}
    hits = [" ".join(line) for line in lines if line[0] == "hit"]
    return hits + [f"node {pid} was not watched" for pid in sorted(WATCH.expected - armed)]


def pytest_configure(config: pytest.Config) -> None:
    """Begin."""
    folder = tempfile.mkdtemp(prefix="dispy-audit-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["DISPY_TEST_AUDIT"] = os.path.join(folder, "lines")
    paths = [str(AUDIT_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    logging.getLogger("dispy").addHandler(_LogSearch())
    stack = contextlib.ExitStack()
    stack.enter_context(_outputs_searched())
    config.add_cleanup(stack.close)
    if os.path.isdir("/proc/self"):
        threading.Thread(target=_keep_looking, name="watching", daemon=True).start()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Search what a test has printed."""
    for title, text in report.sections:
        look_into(text, f"{title} of {report.nodeid}")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take what a worker has seen, as it ends."""
    if told := getattr(node, "workeroutput", {}).get("watched"):
        keys, troubles, *numbers = told
        OF_WORKERS.append(Found(dict.fromkeys(keys), tuple(troubles), *numbers))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if anything was seen."""
    WATCH.ended.set()
    found = sum(OF_WORKERS, found_here())
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["watched"] = [list(found.keys), list(found.troubles), *found[2:]]
    elif (found.keys or found.troubles) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what was seen."""
    found = sum(OF_WORKERS, found_here())
    if not (found.keys or found.troubles or found.daemons):
        return
    terminalreporter.section("watched")
    terminalreporter.line(
        f"X9: {len(found.keys)} keys seen in {found.processes} processes and {found.logs} logs"
    )
    terminalreporter.line(f"X11: {len(found.troubles)} troubles in {found.daemons} daemons")
    for line in (*found.keys, *found.troubles):
        terminalreporter.line(line, red=True)
