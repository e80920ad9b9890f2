"""What jobs can reach of the node and its owner: always, and with ``--confine``.

Tests that need root, bubblewrap or control groups skip elsewhere, with the reason.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from other_user import USER, open_the_way

import dispy

Look = Callable[..., Any]

MEGABYTE = 1_000_000

needs_root_to_look = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root, from whom alone a node does not hide what it has open"
)
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root, who alone can run jobs as another user"
)


def look(files: list[str]) -> dict[str, Any]:
    """Tell what there is for a job; of files, what came of reading them."""
    import os

    def read(path: str) -> str:
        try:
            return ",".join(sorted(os.listdir(path))) if os.path.isdir(path) else open(path).read()
        except OSError as error:
            return type(error).__name__

    with open("written", "w") as file:
        file.write("by a job")
    own = os.listdir("/proc/self/fd")
    return {
        "environment": dict(os.environ),
        "descriptors": {
            int(one): os.readlink(f"/proc/self/fd/{one}")
            for one in own
            if os.path.exists(f"/proc/self/fd/{one}")
        },
        "runner": os.getppid(),
        "uid": os.getresuid(),
        "groups": [os.getgid(), *os.getgroups()],
        "folder": os.getcwd(),
        "processes": sum(name.isdigit() for name in os.listdir("/proc")),
        "cgroup": open("/proc/self/cgroup").read(),
        "files": {path: read(path) for path in files},
    }


def double(data: bytes) -> bytes:
    return data + data


def write(path: str) -> str:
    try:
        open(path, "w").close()
    except OSError as error:
        return type(error).__name__
    return "written"


def reach(port: int, name: str = "") -> list[str]:
    """Connect to a port of loopback, and to the socket of an abstract name."""
    import socket

    found = []
    for family, place in ((socket.AF_INET, ("127.0.0.1", port)), (socket.AF_UNIX, f"\0{name}")):
        with socket.socket(family) as sock:
            sock.settimeout(10)
            try:
                sock.connect(place)
                found.append("reached")
            except OSError as error:
                found.append(type(error).__name__)
    return found


def look_out(port: int, name: str) -> tuple[list[str], set[str]]:
    """Tell what can be reached, and which of two variables there are."""
    import os

    return reach(port, name), {"LIBRARY_SETTING", "SERVICE_TOKEN"} & set(os.environ)


def hang(marker: str) -> None:
    import subprocess
    import sys

    open("started", "w").close()
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)", marker]
    subprocess.run(sleeper, start_new_session=True, env={}, check=True)


def eat(size: int) -> int:
    return len(bytearray(size).replace(b"\0", b"\1"))


def multiply(count: int) -> int:
    import subprocess

    return len([subprocess.Popen(["sleep", "600"]) for _ in range(count)])


def ask(node: Any, function: Callable[..., Any], *arguments: object, **options: Any) -> Any:
    """Run one job; return its result."""
    with dispy.JobCluster(function, nodes=[node.address], **options) as cluster:
        job = cluster.submit(*arguments)
        result = job()
        assert job.status == dispy.DispyJob.Finished, job.exception
        return result


def carries(process: str, marker: str) -> bool:
    with contextlib.suppress(OSError):
        return marker.encode() in Path(f"/proc/{process}/cmdline").read_bytes()
    return False


def count_processes(marker: str) -> int:
    return sum(carries(name, marker) for name in os.listdir("/proc") if name.isdigit())


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder through which everybody may pass, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="dispy-confined-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def secret(place: Path) -> Path:
    """A file of the owner that only the owner can read."""
    secret = place / "secret"
    secret.write_text("the owner's")
    secret.chmod(0o600)
    return secret


@pytest.fixture
def needs_bubblewrap() -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("needs bubblewrap: apt-get install bubblewrap")
    command = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this system forbids sandboxes: {done.stderr.strip()}")


@pytest.fixture
def start_for_user(place: Path, start_node: Look) -> Look:
    """Start nodes whose Python the other user can run, wherever it is installed.

    The place comes first, since what comes first ends last: it is removed when no node works in it any more.
    """

    def start(*options: str) -> Any:
        return start_node(*options, folder=place / "node", prefix=open_the_way())

    return start


def start_in_cgroups(start: Look, *options: str) -> Any:
    """Start a node; skip the test where control groups are not as they must be."""
    try:
        return start(*options)
    except AssertionError as error:
        reasons = [line for line in str(error).splitlines() if "control group" in line]
        if not reasons:
            raise
        pytest.skip(reasons[-1])


# ---- always


@needs_root_to_look
def test_descriptors_of_the_node_stay_with_it(node: Any) -> None:
    with dispy.JobCluster(look, nodes=[node.address]) as cluster:
        found = cluster.submit([])()
        kept, runner = sockets_and_files(node.process.pid), sockets_and_files(found["runner"])
    standard = found["descriptors"]
    assert {standard.pop(0), standard.pop(1).split(":")[0], standard.pop(2).split(":")[0]} == {
        "/dev/null",
        "pipe",
    }
    assert [target.split(":")[0] for target in standard.values()] == ["socket"], "that to its runner"
    assert any(target.endswith("/lock") for target in kept)
    assert any(target.startswith("socket:") for target in runner)
    assert not kept & runner
    assert not kept & set(standard.values())


def sockets_and_files(process: int) -> set[str]:
    """Give what a process has open, but for standard input, output and error."""
    folder = Path(f"/proc/{process}/fd")
    targets = {os.readlink(path) for path in folder.iterdir() if int(path.name) > 2}
    return {target for target in targets if not target.startswith("anon_inode:")}


def test_environment_has_no_secrets(
    start_node: Look, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DISPY_SECRET", "correct horse battery staple")
    monkeypatch.setenv("DISPY_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("DISPY_ANYTHING", "else")
    monkeypatch.setenv("LIBRARY_SETTING", "wanted")
    environment = ask(start_node(), look, [])["environment"]
    assert {name for name in environment if name.startswith("DISPY_")} == {
        "DISPY_RUNNER_MARK",
        "DISPY_CPUS",
        "DISPY_RESOURCES",
    }
    assert "correct horse" not in str(environment)
    assert environment["LIBRARY_SETTING"] == "wanted"


# ---- refusals


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("padlock", "no installed plugin offers the executor 'padlock'"),
        ("function", "'function' runs jobs and confines nothing"),
        ("bubblewrap:nets=no", "no option 'nets'; there are: net"),
        ("user", "write --confine user=NAME"),
        ("user=nobody-here", "this machine has no user 'nobody-here'"),
        ("cgroup:memory=much", "write 500M or 2G"),
    ],
)
def test_node_does_not_start_with_what_it_cannot_do(start_node: Look, option: str, told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        start_node("--confine", option)


@pytest.mark.skipif(os.geteuid() == 0, reason="this is root, who can do it")
def test_user_who_is_not_root_cannot_start_it(start_node: Look) -> None:
    with pytest.raises(AssertionError, match="needs a node that root has started"):
        start_node("--confine", f"user={USER}")


@needs_root
def test_folder_that_the_user_cannot_reach_is_told(place: Path, start_node: Look) -> None:
    place.chmod(0o700)
    with pytest.raises(AssertionError, match=r"'[^']*' is closed; run: chmod o\+x .* --dest-path-prefix"):
        start_node("--confine", f"user={USER}", folder=place / "node")


def test_node_starts_with_settings_of_a_file(
    start_node: Look, tmp_path: Path, needs_bubblewrap: None
) -> None:
    (tmp_path / "node.toml").write_text('confine = ["bubblewrap:net=no"]\n')
    node = start_node("--config", str(tmp_path / "node.toml"))
    assert ask(node, reach, node.port)[0] == "ConnectionRefusedError"


# ---- another user


@needs_root
def test_jobs_of_another_user(start_for_user: Look, place: Path, secret: Path) -> None:
    node = start_for_user("--confine", f"user={USER}")
    state = place / "node" / "dispy" / "node"
    closed = [secret, state, state / "spool", state / "computations", state / "lock", state / "identity.json"]
    found = ask(node, look, [str(path) for path in closed])
    account = pwd.getpwnam(USER)
    assert found["uid"] == (account.pw_uid,) * 3
    assert set(found["groups"]) == set(os.getgrouplist(USER, account.pw_gid))
    assert set(found["files"].values()) == {"PermissionError"}
    environment = found["environment"]
    assert [environment[name] for name in ("HOME", "USER", "LOGNAME")] == [account.pw_dir, USER, USER]
    assert not [name for name in environment if name.startswith(("XDG_", "SSH_", "SUDO_"))]


def write_and_list(name: str) -> dict[str, int]:
    with open(name, "w") as file:
        file.write(name)
    with open("data", "ab") as file:
        file.truncate()
    return {found: os.stat(found).st_uid for found in sorted(os.listdir())}


@needs_root
def test_shared_folders_are_the_other_users(
    start_for_user: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = start_for_user("--confine", f"user={USER}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").write_bytes(os.urandom(MEGABYTE))
    (tmp_path / "own").write_text("of the job")
    uid = pwd.getpwnam(USER).pw_uid
    for number, sent_bytes in ((1, 2 * MEGABYTE), (2, MEGABYTE // 2)):
        with dispy.JobCluster(
            write_and_list, nodes=[node.address], depends=["data"], dest_path="a/b", cleanup=False
        ) as cluster:
            job = cluster.submit(f"result{number}", dispy_job_depends=["own"])
            names = ["data", "own", *(f"result{one}" for one in range(1, number + 1))]
            assert job() == dict.fromkeys(names, uid), job.exception
            assert cluster.status().nodes[0].tx < sent_bytes


@needs_root
@pytest.mark.parametrize("isolation", ["process", "worker"])
def test_files_of_another_user_go_both_ways(start_for_user: Look, place: Path, isolation: str) -> None:
    """Large arguments and results go through files, which the node and the user hand over to each other."""
    node = start_for_user("--confine", f"user={USER}")
    data = os.urandom(3 * MEGABYTE)
    with dispy.JobCluster(double, nodes=[node.address], isolation=isolation) as cluster:
        jobs = [cluster.submit(data) for _ in range(4)]
        assert all(job() == data + data for job in jobs), [job.exception for job in jobs]
    node.end()
    state = place / "node" / "dispy" / "node"
    assert sorted(path.name for path in state.iterdir()) == ["identity.json", "lock"], "nothing is left"


@needs_root
def test_files_that_come_along_belong_to_the_user(start_for_user: Look, tmp_path: Path) -> None:
    node = start_for_user("--confine", f"user={USER}")
    (tmp_path / "data.txt").write_text("came along")
    (tmp_path / "job.sh").write_text("#!/bin/sh\nid -un\ncat data.txt\necho more >> data.txt\n")
    (tmp_path / "job.sh").chmod(0o755)
    with dispy.JobCluster(
        str(tmp_path / "job.sh"), depends=[str(tmp_path / "data.txt")], nodes=[node.address]
    ) as cluster:
        job = cluster.submit()
        assert (job(), job.stdout) == (0, f"{USER}\ncame along".encode()), job.stderr


@needs_root
@pytest.mark.parametrize("sandbox", [[], ["--confine", "bubblewrap:net=no"]])
def test_confined_programs_speak_with_the_client(
    start_for_user: Look,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    sandbox: list[str],
) -> None:
    if sandbox:
        request.getfixturevalue("needs_bubblewrap")
    node = start_for_user("--confine", f"user={USER}", *sandbox)
    (tmp_path / "job.sh").write_text(
        '#!/bin/sh\ndispy-job result "$(id -un)" && id -un > sent && dispy-job send-file sent\n'
    )
    (tmp_path / "job.sh").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    with dispy.JobCluster("job.sh", nodes=[node.address]) as cluster:
        job = cluster.submit()
        assert (list(job.stream(timeout=60)), job()) == ([USER], 0), job.stderr
    assert (tmp_path / "sent").read_text() == f"{USER}\n"


@needs_root
def test_jobs_of_another_user_end(start_for_user: Look, eventually: Look) -> None:
    node = start_for_user("--confine", f"user={USER}")
    marker = uuid.uuid4().hex
    with dispy.JobCluster(hang, nodes=[node.address]) as cluster:
        job = cluster.submit(marker)
        eventually(lambda: count_processes(marker), "the job runs")
        cluster.cancel(job)
        eventually(lambda: not count_processes(marker), "a cancelled job ends")
        cluster.submit(marker)
        eventually(lambda: count_processes(marker), "the next job runs")
        node.process.kill()
        eventually(lambda: not count_processes(marker), "jobs of a killed node end")
        cluster.close(timeout=0, terminate=True)  # else it would wait for the node to come back


# ---- control groups


def test_each_computation_has_a_control_group(start_node: Look, eventually: Look) -> None:
    node = start_in_cgroups(start_node, "--confine", "cgroup")
    with dispy.JobCluster(look, nodes=[node.address]) as cluster:
        found = cluster.submit([])()
        (own,) = [line[3:] for line in found["cgroup"].splitlines() if line.startswith("0::")]
        assert Path(own).name.startswith(f"dispy-{node.process.pid}-runner-")
        assert groups_named(Path(own).name)
    eventually(lambda: not groups_named(Path(own).name), "the group is removed")


def groups_named(name: str) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    places = [line.split()[4] for line in lines if " - cgroup2 " in line]
    return [folder for place in places for folder, _names, _files in os.walk(place) if folder.endswith(name)]


def test_what_leaves_everything_else_behind_ends_with_its_group(start_node: Look, eventually: Look) -> None:
    node = start_in_cgroups(start_node, "--confine", "cgroup")
    marker = uuid.uuid4().hex
    with dispy.JobCluster(hang, nodes=[node.address]) as cluster:
        cluster.submit(marker)
        eventually(lambda: count_processes(marker), "the job runs")
        cluster.close(timeout=0, terminate=True)
    eventually(lambda: not count_processes(marker), "it ends")


def test_memory_is_limited(start_node: Look) -> None:
    node = start_in_cgroups(start_node, "--confine", "cgroup:memory=200M")
    with dispy.JobCluster(eat, nodes=[node.address]) as cluster:
        small, large = cluster.submit(10 * MEGABYTE), cluster.submit(1000 * MEGABYTE)
        assert small() == 10 * MEGABYTE
        large()
        assert "SIGKILL" in str(large.exception)


def test_number_of_processes_is_limited(start_node: Look) -> None:
    node = start_in_cgroups(start_node, "--confine", "cgroup:pids=50")
    with dispy.JobCluster(multiply, nodes=[node.address]) as cluster:
        few, many = cluster.submit(5), cluster.submit(100)
        assert few() == 5
        many()
        assert "BlockingIOError" in str(many.exception)


# ---- bubblewrap


def test_jobs_in_a_sandbox(start_node: Look, secret: Path, needs_bubblewrap: None) -> None:
    keys, home = Path(os.environ["DISPY_CONFIG_DIR"]), Path.home()
    (keys / "marker").write_text("a key")
    places = [str(keys / "marker"), str(secret)]
    assert ask(start_node(), look, places)["files"] == dict(
        zip(places, ["a key", "the owner's"], strict=True)
    )
    found = ask(start_node("--confine", "bubblewrap"), look, [*places, str(home)])
    kept = [Path(place) for place in (sys.prefix, sys.base_prefix, *sys.path)]
    needed = {path.relative_to(home).parts[0] for path in kept if home in path.parents}
    assert set(found["files"].pop(str(home)).split(",")) - {""} <= needed
    assert set(found["files"].values()) == {"FileNotFoundError"}
    assert found["processes"] < 10
    assert {name for name in found["environment"] if name.startswith("DISPY_")} == {
        "DISPY_RUNNER_MARK",
        "DISPY_CPUS",
        "DISPY_RESOURCES",
    }
    assert len(found["descriptors"]) == 4


def test_system_is_read_only_in_a_sandbox(start_node: Look, needs_bubblewrap: None) -> None:
    node = start_node("--confine", "bubblewrap")
    name = f"dispy-{uuid.uuid4().hex}"
    for folder in ("/etc", "/usr", "/"):
        assert ask(node, write, f"{folder}/{name}") == "OSError"
    assert ask(node, write, f"/tmp/{name}") == "written"
    assert not Path(f"/tmp/{name}").exists(), "its temporary folder is its own"


def test_sandbox_has_no_network_unless_it_is_wanted(
    start_node: Look, needs_bubblewrap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the variables it has those that are let through."""
    monkeypatch.setenv("LIBRARY_SETTING", "wanted")
    monkeypatch.setenv("SERVICE_TOKEN", "secret")
    one = start_node("--confine", "bubblewrap")
    other = start_node("--confine", "bubblewrap:net=yes", "--env", "LIBRARY_SETTING")
    name = f"dispy-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        refused, reached = ["ConnectionRefusedError"] * 2, ["reached"] * 2
        assert ask(one, look_out, other.port, name, depends=[reach]) == (refused, set())
        assert ask(other, look_out, other.port, name, depends=[reach]) == (reached, {"LIBRARY_SETTING"})


@pytest.mark.parametrize("isolation", ["process", "worker"])
def test_files_go_into_a_sandbox_and_out(start_node: Look, needs_bubblewrap: None, isolation: str) -> None:
    node = start_node("--confine", "bubblewrap")
    data = os.urandom(3 * MEGABYTE)
    assert ask(node, double, data, isolation=isolation) == data + data


def test_jobs_in_a_sandbox_end(start_node: Look, needs_bubblewrap: None, eventually: Look) -> None:
    node = start_node("--confine", "bubblewrap")
    marker = uuid.uuid4().hex
    with dispy.JobCluster(hang, nodes=[node.address]) as cluster:
        job = cluster.submit(marker)
        eventually(lambda: count_processes(marker), "the job runs")
        cluster.cancel(job)
        eventually(lambda: not count_processes(marker), "a cancelled job ends")
        cluster.submit(marker)
        eventually(lambda: count_processes(marker), "the next job runs")
        node.process.kill()
        eventually(lambda: not count_processes(marker), "jobs of a killed node end")
        cluster.close(timeout=0, terminate=True)  # else it would wait for the node to come back


# ---- all together


@needs_root
def test_all_kinds_go_together_in_any_order(
    start_for_user: Look, secret: Path, needs_bubblewrap: None
) -> None:
    node = start_in_cgroups(
        start_for_user, "--confine", "bubblewrap", "--confine", f"user={USER}", "--confine", "cgroup"
    )
    with dispy.JobCluster(look, nodes=[node.address]) as cluster:
        found = cluster.submit([str(secret), "/etc/shadow"])()
        assert found["uid"] == (pwd.getpwnam(USER).pw_uid,) * 3
        assert set(found["files"].values()) == {"FileNotFoundError", "PermissionError"}
        assert found["processes"] < 10
    data = os.urandom(MEGABYTE)
    assert ask(node, double, data) == data + data
