"""The daemon's side of a runner, with tiny programs in place of the real one."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from dispy.errors import UsageError
from dispy.interfaces import ExecutorPlan
from dispy.model import ComputationId, Outcome
from dispy.wire.messages import JobLimits
from dispy_node import runners
from dispy_node.confine.accounts import Account
from dispy_node.engine import events as ev
from dispy_node.engine.records import Spooled
from dispy_node.runner import frames
from dispy_node.runner.shared import shared_name
from dispy_node.runners import RunnerProcess, _describe_end

COMPUTATION = ComputationId("c" * 32)

PRELUDE = """
import os, socket, struct, sys
sock = socket.socket(fileno=int(os.environ["DISPY_RUNNER_FD"]))
def take():
    head = sock.recv(5, socket.MSG_WAITALL)
    if len(head) < 5: sys.exit(0)
    kind, size = struct.unpack("<BI", head)
    return kind, sock.recv(size, socket.MSG_WAITALL) if size else b""
def tell(kind, data=b""):
    sock.sendall(struct.pack("<BI", kind, len(data)) + data)
"""


class Scene:
    """A runner process and the events that it gave."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "folder"
        self.spool = tmp_path / "spool"
        self.folder.mkdir()
        self.spool.mkdir()
        self.events: list[ev.Event] = []
        self.on_event: Callable[[ev.Event], None] = lambda event: None
        self.runner = RunnerProcess(COMPUTATION, self.spool, self.emit)

    def emit(self, event: ev.Event) -> None:
        self.events.append(event)
        self.on_event(event)

    def start(self, program: str, **environment: str) -> None:
        plan = ExecutorPlan(command=[sys.executable, "-S", "-c", PRELUDE + program], environment=environment)
        self.runner.start(plan, self.folder)
        self.runner.configure({"node": "worker"}, b"code")

    def serve(self) -> None:
        async def main() -> None:
            with trio.fail_after(30):
                await self.runner.serve()

        trio.run(main, strict_exception_groups=True)

    def play(self, program: str) -> list[ev.Event]:
        self.start(program)
        self.serve()
        return self.events


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


READY = "take(); take(); tell(7);"


def test_configuration_comes_first_then_what_was_told_before_the_start(scene: Scene) -> None:
    """A computation may be closed in the same batch of messages that opens it."""
    scene.runner.set_slots(2)
    scene.runner.close(terminate=False)
    events = scene.play(
        "kinds = [take()[0] for _ in range(4)]; tell(7); open('kinds', 'w').write(repr(kinds))",
    )
    assert (scene.folder / "kinds").read_text() == repr(
        [frames.CONFIGURE, frames.LOAD, frames.SLOTS, frames.CLOSE]
    )
    assert events == [ev.RunnerReady(COMPUTATION), ev.RunnerEnded(COMPUTATION)]


def test_jobs_go_there_and_starts_results_and_slots_come_back(scene: Scene) -> None:
    body = scene.folder / "body"
    body.write_bytes(b"args")
    value = scene.spool / "value"
    value.write_bytes(b"large")
    result = frames.pack_result((7, 1, Outcome.RETURNED, 0, 1.0, 2.0, "", False, b"small"))
    spooled = frames.pack_result((8, 1, Outcome.RETURNED, 0, 1.0, 2.0, "", True, os.fsencode(value)))

    def react(event: ev.Event) -> None:
        if isinstance(event, ev.RunnerReady):
            scene.runner.limit_jobs({(8, 1): JobLimits(2.0, 1.5, 10**9, 7)})
            scene.runner.run_jobs([((7, 1), b"args"), ((8, 1), Spooled(str(body), 4))])
            scene.runner.cancel([(8, 1)])
        elif isinstance(event, ev.SlotsGivenUp):
            scene.runner.close(terminate=True)

    scene.on_event = react
    events = scene.play(
        f"{READY} limits = take(); run = take(); cancel = take();"
        f"open('run', 'wb').write(limits[1] + run[1] + cancel[1]);"
        f"tell(9, {frames.pack_starts([(7, 1, 1.5)])!r});"
        f"tell(10, {result + spooled!r}); tell(8 + 3, b'a log line'); tell(4, {frames.COUNT.pack(3)!r}); take()"
    )
    told = (scene.folder / "run").read_bytes()
    (given,) = scene.spool.glob("in-*")
    assert given.read_bytes() == b"args"
    jobs = frames.pack_jobs([(7, 1, False, b"args"), (8, 1, True, os.fsencode(given))])
    limits = frames.pack_limits([(8, 1, 2.0, 1.5, 10**9, 7)])
    assert told == limits + jobs + frames.pack_keys([(8, 1)])
    assert [type(event).__name__ for event in events] == [
        "RunnerReady",
        "AttemptsStarted",
        "AttemptsEnded",
        "SlotsGivenUp",
        "RunnerEnded",
    ]
    ended = events[2]
    assert isinstance(ended, ev.AttemptsEnded)
    assert [one.result.body for one in ended.results] == [b"small", b""]
    small, large = [one.spooled for one in ended.results]
    assert small is None
    assert large is not None
    assert (large.size, Path(large.path).read_bytes()) == (5, b"large")
    assert Path(large.path).parent == scene.spool.parent, "it outlives its runner, whose folder is removed"
    assert not value.exists()
    assert not body.exists(), "arguments are where they are removed with the runner's folder"
    assert events[4] == ev.RunnerEnded(COMPUTATION)


def test_large_code_and_many_frames_wait_for_a_slow_runner(scene: Scene) -> None:
    data = bytes(8_000_000)
    scene.runner.run_jobs([((1, 1), data)])
    scene.runner.close(terminate=False)
    events = scene.play(
        "take(); take(); size = len(take()[1]); tell(7); take(); open('size', 'w').write(str(size))"
    )
    assert int((scene.folder / "size").read_text()) > len(data)
    assert events[-1] == ev.RunnerEnded(COMPUTATION)


@pytest.mark.parametrize(
    ("let_through", "names"), [(None, ["ONE", "OTHER"]), (frozenset({"ONE"}), ["ONE"]), (frozenset(), [])]
)
def test_variables_are_those_that_are_let_through(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, let_through: frozenset[str] | None, names: list[str]
) -> None:
    for name in ("ONE", "OTHER"):
        monkeypatch.setenv(name, "value")
    program = "import os; open('names', 'w').write(' '.join(n for n in ('ONE', 'OTHER') if n in os.environ))"
    plan = ExecutorPlan(command=[sys.executable, "-S", "-c", program])
    scene.runner.start(plan, scene.folder, let_through=let_through)
    scene.runner.configure({}, b"")
    scene.serve()
    assert (scene.folder / "names").read_text().split() == names


def test_runner_that_reads_nothing_is_killed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have told that its jobs have started, so that their arguments do not count any more."""
    monkeypatch.setattr("dispy_node.runners.UNSENT_BYTES", 4_000_000)

    def react(event: ev.Event) -> None:
        if isinstance(event, ev.RunnerReady):
            for number in range(1, 12):
                scene.runner.run_jobs([((number, 1), bytes(1_000_000))])

    scene.on_event = react
    *_, end = scene.play(f"{READY} import time; time.sleep(60)")
    assert isinstance(end, ev.RunnerEnded)
    assert "its runner reads nothing of the" in end.reason


def test_code_in_a_file_is_named(scene: Scene) -> None:
    plan = ExecutorPlan(
        command=[sys.executable, "-S", "-c", PRELUDE + "take(); open('code', 'wb').write(take()[1])"],
    )
    code = scene.folder / "arrived"
    code.write_bytes(b"code")
    scene.runner.start(plan, scene.folder)
    scene.runner.configure({}, Spooled(str(code), 4))
    scene.serve()
    (given,) = scene.spool.iterdir()
    assert (scene.folder / "code").read_bytes() == b"\1" + os.fsencode(given)
    assert given.read_bytes() == b"code"


def test_arguments_that_are_gone_do_not_stop_the_others(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.runner.run_jobs([((1, 1), Spooled("/no/such/file", 4)), ((2, 1), b"args")])
    assert "will miss /no/such/file: No such file" in caplog.text
    scene.play("take(); take(); open('run', 'wb').write(take()[1])")
    assert (scene.folder / "run").read_bytes().endswith(frames.pack_jobs([(2, 1, False, b"args")]))


@pytest.mark.parametrize(
    ("program", "kind", "reason"),
    [
        ("sys.exit(3)", ev.RunnerFailed, "its runner ended with status 3 before it was ready"),
        (
            "os.kill(os.getpid(), 9)",
            ev.RunnerFailed,
            "its runner was killed by signal 9 (SIGKILL) before it was ready",
        ),
        ("take(); tell(8, b'no module named x')", ev.RunnerFailed, "no module named x"),
        (READY + "os.kill(os.getpid(), 9)", ev.RunnerEnded, "its runner was killed by signal 9 (SIGKILL)"),
        (READY + "sys.exit(0)", ev.RunnerEnded, "its runner ended with status 0"),
    ],
    ids=["exit", "killed", "cannot load", "killed when ready", "ends by itself"],
)
def test_end_that_nobody_asked_for_is_told(
    scene: Scene, program: str, kind: Callable[..., ev.Event], reason: str
) -> None:
    assert scene.play(program)[-1] == kind(COMPUTATION, reason)


def garbage() -> Iterator[tuple[str, bytes]]:
    yield "short result", frames.frame(frames.ENDED, b"xy")
    yield "bad time", frames.frame(frames.STARTED, b"x" * 13)
    large = frames.pack_result((7, 1, 0, 0, 1.0, 2.0, "", False, bytes(64 * 1024 + 1)))
    yield "large body", frames.frame(frames.ENDED, large)
    yield "bad count", frames.frame(frames.SLOTS, b"x")
    for name in (b"/etc/passwd", b"spool/missing", b"\0"):
        record = frames.pack_result((7, 1, 0, 0, 1.0, 2.0, "", True, name))
        yield f"file {name!r}", frames.frame(frames.ENDED, record)


@pytest.mark.parametrize("data", [data for _name, data in garbage()], ids=[name for name, _data in garbage()])
def test_runner_that_user_code_has_taken_over_is_ended(scene: Scene, data: bytes) -> None:
    (scene.folder / "garbage").write_bytes(data)
    events = scene.play(f"{READY} sock.sendall(open('garbage', 'rb').read()); take(); take()")
    assert len(events) == 2
    assert isinstance(events[1], ev.RunnerEnded)
    assert "sent what no runner sends" in events[1].reason


def test_link_in_the_spool_folder_is_no_result(scene: Scene) -> None:
    (scene.spool / "link").symlink_to("/etc/passwd")
    record = frames.pack_result((7, 1, 0, 0, 1.0, 2.0, "", True, os.fsencode(scene.spool / "link")))
    events = scene.play(f"{READY} tell(10, {record!r}); take(); take()")
    assert isinstance(events[1], ev.RunnerEnded)
    assert "no file of its spool folder" in events[1].reason


def test_shared_data_in_whose_place_a_job_has_put_something_is_no_trouble(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    (scene.spool / shared_name(3)).mkdir()
    scene.runner.forget_data([3, 4])
    assert "shared data 3 of" in caplog.text


def test_garbage_before_it_is_ready_is_told_too(scene: Scene) -> None:
    (event,) = scene.play("tell(4, b'x'); take(); take(); take()")
    assert isinstance(event, ev.RunnerFailed)
    assert "sent what no runner sends" in event.reason


def test_one_file_is_not_two_results(scene: Scene) -> None:
    value = scene.spool / "value"
    value.write_bytes(b"large")
    record = frames.pack_result((7, 1, 0, 0, 1.0, 2.0, "", True, os.fsencode(value)))
    events = scene.play(f"{READY} tell(10, {record!r}); tell(10, {record!r}); take(); take()")
    assert isinstance(events[1], ev.AttemptsEnded)
    assert isinstance(events[2], ev.RunnerEnded)
    assert "sent what no runner sends" in events[2].reason


def test_results_that_follow_each_other_are_told_together(scene: Scene) -> None:
    """However many frames they come in; what stands between them keeps its place, and damage harms what follows."""

    def ended(job: int) -> bytes:
        return frames.frame(
            frames.ENDED, frames.pack_result((job, 1, 0, 0, 1.0, 2.0, "", False, bytes([job])))
        )

    told = b"".join(
        [
            *map(ended, range(1, 101)),
            frames.frame(frames.STARTED, frames.pack_starts([(200, 1, 1.0)])),
            ended(101),
            frames.frame(frames.ENDED, b"damaged"),
            ended(102),
        ]
    )
    (scene.folder / "told").write_bytes(told)
    events = scene.play(f"{READY} sock.sendall(open('told', 'rb').read()); take(); take()")
    _, first, start, second, end = events
    assert isinstance(first, ev.AttemptsEnded)
    assert [item.result.job for item in first.results] == list(range(1, 101))
    assert isinstance(start, ev.AttemptsStarted)
    assert isinstance(second, ev.AttemptsEnded)
    assert [item.result.body for item in second.results] == [bytes([101])]
    assert isinstance(end, ev.RunnerEnded)
    assert "sent what no runner sends" in end.reason


def test_environment_is_scrubbed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPY_SECRET", "geheim")
    monkeypatch.setenv("SOME_LIBRARY", "there")
    scene.start(
        "import json; json.dump([sorted(n for n in os.environ if n.startswith('DISPY_')), "
        "os.environ['SOME_LIBRARY'], sorted(map(int, os.listdir('/proc/self/fd'))), sock.fileno()], open('told', 'w'))"
    )
    scene.serve()
    names, library, descriptors, control = json.loads((scene.folder / "told").read_text())
    assert names == ["DISPY_RUNNER_FD", "DISPY_RUNNER_MARK"]
    assert library == "there"
    assert {0, 1, 2, control} <= set(descriptors)
    assert len(descriptors) == 5, "and that of the listing"


def test_files_of_a_runner_that_is_another_users(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets bodies of jobs, and only what is its own is taken from it."""
    owners = []
    monkeypatch.setattr(os, "chown", lambda *arguments: owners.append(arguments))
    body = scene.folder / "body"
    body.write_bytes(b"args")
    foreign = scene.spool / "foreign"
    foreign.write_bytes(b"a key of root's")
    record = frames.pack_result((7, 1, 0, 0, 1.0, 2.0, "", True, os.fsencode(foreign)))
    scene.on_event = lambda event: (
        scene.runner.run_jobs([((7, 1), Spooled(str(body), 4))])
        if isinstance(event, ev.RunnerReady)
        else None
    )
    scene.start(f"{READY} take(); tell(10, {record!r}); take()")
    scene.runner.account = Account("other", 12345, 54321, (54321,), "/home/other", "/bin/sh")
    scene.serve()
    assert owners == [(str(body), 12345, 54321)]
    assert isinstance(scene.events[1], ev.RunnerEnded)
    assert "no file of its spool folder" in scene.events[1].reason


def test_user_that_is_not_there(scene: Scene) -> None:
    with pytest.raises(UsageError, match="no user 'nobody-here'"):
        scene.runner.start(ExecutorPlan([sys.executable], user="nobody-here"), scene.folder)


def test_error_of_the_engine_is_not_blamed_on_the_runner(scene: Scene) -> None:
    def fails(event: ev.Event) -> None:
        if isinstance(event, ev.RunnerReady):
            raise ValueError("a bug of the engine")

    scene.on_event = fails
    scene.start(f"{READY} take(); take()")
    with pytest.raises(ExceptionGroup) as caught:
        scene.serve()
    assert caught.group_contains(ValueError, match="a bug of the engine")
    assert scene.runner._process is not None
    assert scene.runner._process.returncode is not None


def test_runner_that_stays_is_killed_with_what_carries_its_mark(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "END_S", 0.2)
    (_event,) = scene.play(
        "import subprocess, time\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
        "open('child', 'w').write(str(child.pid))\n"
        "sock.close(); time.sleep(600)"
    )
    assert isinstance(scene.events[-1], ev.RunnerFailed)
    assert "SIGKILL" in scene.events[-1].reason
    assert has_ended(int((scene.folder / "child").read_text()))


def has_ended(process: int) -> bool:
    """Tell whether a process ends within 30 s."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 30)[0])
    finally:
        os.close(descriptor)


def test_program_that_is_not_there_leaves_nothing_open(scene: Scene) -> None:
    with pytest.raises(FileNotFoundError):
        scene.runner.start(ExecutorPlan(command=["/no/such/program"]), scene.folder)


def test_what_is_told_after_the_end_is_dropped(scene: Scene) -> None:
    scene.play("sys.exit(0)")
    scene.runner.set_slots(3)
    scene.runner.close(terminate=True)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "ended with status 0"),
        (3, "ended with status 3"),
        (-9, "was killed by signal 9 (SIGKILL)"),
        (-40, "was killed by signal 40 (a real-time signal)"),
    ],
)
def test_ends_in_words(status: int, text: str) -> None:
    assert _describe_end(status) == text


def test_frames_are_those_of_the_prelude() -> None:
    """The programs above speak them by hand."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(frames.frame(frames.READY, b"abc"))
        assert struct.unpack("<BI", theirs.recv(5)) == (7, 3)


# ---- setup and cleanup

SETUP = "take(); take(); tell(15);"


def prepared(scene: Scene, program: str, *, setup_timeout_s: float = 30.0) -> ev.Event:
    """Play a runner with setup; give the last event."""
    plan = ExecutorPlan(command=[sys.executable, "-S", "-c", PRELUDE + program])
    scene.runner.start(plan, scene.folder, setup_timeout_s=setup_timeout_s)
    scene.runner.configure({}, b"code")
    scene.serve()
    return scene.events[-1]


def test_arguments_of_setup_come_before_the_code(scene: Scene) -> None:
    body = scene.folder / "body"
    body.write_bytes(b"args")
    for arguments in (b"args", Spooled(str(body), 4)):
        scene.runner = RunnerProcess(COMPUTATION, scene.spool, scene.emit)
        program = "take(); kind, data = take(); open('told', 'wb').write(bytes([kind, take()[0]]) + data)"
        plan = ExecutorPlan(command=[sys.executable, "-S", "-c", PRELUDE + program])
        scene.runner.start(plan, scene.folder, setup_timeout_s=1.0)
        scene.runner.configure({}, b"code", arguments)
        scene.serve()
        told = (scene.folder / "told").read_bytes()
        assert told[:2] == bytes([frames.SETUP, frames.LOAD])
        if arguments == b"args":
            assert told[2:] == b"\0args"
        else:
            assert Path(os.fsdecode(told[3:])).read_bytes() == b"args"


def test_setup_that_takes_too_long_is_killed(scene: Scene) -> None:
    event = prepared(
        scene, f"{SETUP} print('waiting', flush=True); import time; time.sleep(600)", setup_timeout_s=0.3
    )
    assert event == ev.RunnerFailed(
        COMPUTATION,
        "setup did not finish within 0.3 s (setup_timeout) and was killed\n  it has printed:\n    waiting",
    )


def test_loading_does_not_count_as_setup(scene: Scene) -> None:
    scene.on_event = lambda event: scene.runner.close(terminate=False)
    event = prepared(
        scene,
        "import time; take(); take(); time.sleep(0.5); tell(15); tell(7); time.sleep(0.5); take()",
        setup_timeout_s=0.4,
    )
    assert event == ev.RunnerEnded(COMPUTATION)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("os._exit(3)", "setup has ended its process, which ended with status 3"),
        (
            "os.kill(os.getpid(), 11)",
            "setup has ended its process, which was killed by signal 11 (SIGSEGV)",
        ),
        ("tell(8, b'setup has returned 5')", "setup has returned 5"),
        (
            "tell(8, b'setup has returned 5'); tell(16); tell(16, b'cleanup has failed')",
            "setup has returned 5\n  then cleanup has failed",
        ),
    ],
    ids=["exit", "killed", "told", "cleanup too"],
)
def test_setup_that_fails(scene: Scene, program: str, reason: str) -> None:
    assert prepared(scene, SETUP + program) == ev.RunnerFailed(COMPUTATION, reason)


def test_runner_that_dies_before_setup_is_no_failure_of_setup(scene: Scene) -> None:
    event = prepared(scene, "print('importing', flush=True); os._exit(3)")
    assert event == ev.RunnerFailed(
        COMPUTATION,
        "its runner ended with status 3 before it was ready\n  it has printed:\n    importing",
    )


def test_computation_closed_during_its_setup(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "LOADING_S", 0.2)
    scene.runner.close(terminate=True)
    assert prepared(scene, f"{SETUP} import time; time.sleep(600)") == ev.RunnerEnded(COMPUTATION)


CLOSE_WHEN_READY = f"{SETUP} tell(7); take(); tell(16);"


@pytest.mark.parametrize(
    ("program", "trouble"),
    [
        ("", ""),
        ("print('tidied', flush=True)", ""),
        ("tell(16, b'cleanup has failed')", "cleanup has failed"),
        (
            "print('oh', flush=True); tell(16, b'cleanup has failed')",
            "cleanup has failed\n  it has printed:\n    oh",
        ),
        ("os._exit(3)", "cleanup has ended its process, which ended with status 3"),
        ("import time; time.sleep(600)", "cleanup did not finish within 0.3 s and was killed"),
    ],
    ids=["well", "prints", "fails", "fails and prints", "exits", "hangs"],
)
@pytest.mark.parametrize("terminate", [False, True])
def test_cleanup(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, program: str, trouble: str, terminate: bool
) -> None:
    monkeypatch.setattr(runners, "CLEANUP_S", 0.3 if "hang" in trouble or "finish" in trouble else 30.0)
    scene.on_event = lambda event: scene.runner.close(terminate=terminate)
    assert prepared(scene, CLOSE_WHEN_READY + program) == ev.RunnerEnded(COMPUTATION, trouble=trouble)


def test_frames_of_setup_where_there_is_none(scene: Scene) -> None:
    for kind in (frames.SETUP, frames.CLEANUP, frames.SHUTDOWN):
        scene.runner = RunnerProcess(COMPUTATION, scene.spool, scene.emit)
        event = scene.play(f"take(); take(); tell({kind}); take(); take()")[-1]
        assert isinstance(event, ev.RunnerFailed)
        assert "sent what no runner sends" in event.reason


def test_output_of_setup_is_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dispy.node")
    prepared(scene, f"{SETUP} print('one'); os.write(2, b'two'); sys.stdout.flush(); tell(8, b'x')")
    lines = [record.getMessage() for record in caplog.records if "prints" in record.getMessage()]
    assert sorted(line.partition("prints: ")[2] for line in lines) in (["one", "two"], ["twoone"])


def test_cleanup_has_its_time_when_the_node_ends(scene: Scene) -> None:
    """The runner sees that the socket is closed; what it prints meanwhile does not stop it."""
    program = (
        f"{SETUP} tell(7); sock.recv(1); import time; time.sleep(0.3); os.write(1, bytes(300_000));"
        "open('cleaned', 'w').close()"
    )
    plan = ExecutorPlan(command=[sys.executable, "-S", "-c", PRELUDE + program])
    scene.runner.start(plan, scene.folder, setup_timeout_s=30.0)
    scene.runner.configure({}, b"code")
    ready = trio.Event()
    scene.on_event = lambda event: ready.set()

    async def main() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(scene.runner.serve)
                await ready.wait()
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert (scene.folder / "cleaned").exists()


def test_news_of_jobs_and_their_lines(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    large = scene.spool / "large"
    large.write_bytes(b"content")
    key = frames.KEY.pack(7, 1)
    small = frames.pack_news(key, 1, frames.PARTIAL, body=b"part")
    file = frames.pack_news(
        key, 2, frames.FILE, body=os.fsencode(large), is_path=True, path="a/x", mode=0o644, digest=b"d" * 32
    )
    said = key + frames.LEVEL.pack(30) + b"look\nhere"
    events = scene.play(f"{READY} tell(12, {small!r}); tell(12, {file!r}); tell(13, {said!r})")
    first, second = events[1:3]
    assert (first.news.number, first.news.kind, first.news.body, first.spooled) == (1, 0, b"part", None)
    assert (second.news.path, second.news.digest, second.spooled.size) == ("a/x", b"d" * 32, 7)
    assert "job 7 of" in caplog.text
    assert "look here" in caplog.text


@pytest.mark.parametrize("kind", [frames.FILE, 9])
def test_news_that_no_runner_sends(scene: Scene, kind: int) -> None:
    record = frames.pack_news(frames.KEY.pack(7, 1), 1, kind, body=b"inline")
    events = scene.play(f"{READY} tell(12, {record!r}); take(); take()")
    assert "sent what no runner sends" in events[1].reason
