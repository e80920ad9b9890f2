"""What computations and jobs bring along, on real nodes: one class and one module everywhere, files sent once."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from real_nodes import NodeProcess

import dispy
from dispy.errors import UsageError

Make = Callable[..., dispy.JobCluster]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One node for all tests here: none of them harms it."""
    node = NodeProcess(tmp_path_factory.mktemp("node"))
    yield node
    node.end()


@pytest.fixture
def cluster_of(node: NodeProcess) -> Iterator[Make]:
    """Make clusters on that node; they are closed with the test."""
    clusters: list[dispy.JobCluster] = []

    def make(computation: Any, **options: Any) -> dispy.JobCluster:
        options.setdefault("nodes", [node.address])
        cluster = dispy.JobCluster(computation, **options)
        clusters.append(cluster)
        return cluster

    yield make
    for cluster in clusters:
        cluster.close(timeout=0, terminate=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The client's working directory."""
    folder = tmp_path / "client"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


# ---- each kind of thing, in each place. A place looks things up by name, so that only `depends` brings them.


def function(number: int) -> int:
    return number + 1


class Class:
    def __init__(self, number: int = 4) -> None:
        self.number = number


class Other:
    def __init__(self, number: int = 4) -> None:
        self.number = number


@dataclasses.dataclass(slots=True)
class Slotted:
    number: int = 4


class Locked:
    lock = threading.Lock()

    def __init__(self, number: int = 4) -> None:
        self.start = number

    @functools.cached_property
    def number(self) -> int:
        with self.lock:
            return self.start


MODULES = {"module": "own_module", "package": "own_package.inner.util"}

MODULE = """
NAME = __name__

class Thing:
    def __init__(self, number):
        self.number = number
"""


def make(kind: str) -> Any:
    """Make something of that kind, which arguments and results then hold."""
    import importlib

    if kind in ("module", "package"):
        modules = {"module": "own_module", "package": "own_package.inner.util"}
        module = importlib.import_module(modules[kind])
        assert modules[kind] == module.NAME
        return module.Thing(4)
    names = globals()  # not by name, which would bring along what `depends` is to bring
    if kind == "file":
        with open("data/file.txt") as file:
            return file.read()
    if kind == "function":
        return names["function"]
    return names[{"class": "Class", "instance": "Other", "slots": "Slotted", "lock": "Locked"}[kind]](4)


def same(kind: str, value: Any) -> bool:
    """Tell whether a value is of what is known here by that name, not of something that looks like it."""
    fresh = make(kind)
    if kind in ("function", "file"):
        return bool(value(4) == 5 if kind == "function" else value == fresh == "content")
    return (
        type(value) is type(fresh) and value.number == 4 and hasattr(value, "__dict__") is (kind != "slots")
    )


def prepare(*kinds: str) -> int:
    global in_setup
    in_setup = {kind: make(kind) for kind in kinds}
    return 0 if all(same(kind, in_setup[kind]) for kind in kinds) else 3


def finish(*kinds: str) -> None:
    assert all(same(kind, in_setup[kind]) for kind in kinds)  # type: ignore[name-defined]


def compute(kind: str, value: Any) -> tuple[bool, bool, Any]:
    return same(kind, value), same(kind, in_setup[kind]), make(kind)  # type: ignore[name-defined]


def job_only(kind: str, value: Any) -> tuple[Any, Any]:
    try:
        return same(kind, value), make(kind)
    except Exception as error:
        return type(error).__name__, None


WITHOUT = {
    "function": "KeyError",
    "class": "KeyError",
    "instance": "KeyError",
    "slots": "KeyError",
    "lock": "KeyError",
    "module": "ModuleNotFoundError",
    "package": "ModuleNotFoundError",
    "file": "FileNotFoundError",
}


@pytest.fixture
def things(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Give what a list of `depends` has for each kind."""
    for name in ("own_module.py", "own_package/inner/util.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(MODULE)
    for name in ("own_package/__init__.py", "own_package/inner/__init__.py"):
        (folder / name).touch()
    (folder / "data").mkdir()
    (folder / "data" / "file.txt").write_text("content")
    monkeypatch.syspath_prepend(folder)

    def thing(kind: str) -> Any:
        if kind in MODULES:
            return importlib.import_module(MODULES[kind].partition(".")[0])
        known: dict[str, Any] = {
            "function": function,
            "class": Class,
            "instance": Other(4),
            "slots": Slotted,
            "lock": Locked,
        }
        return known.get(kind, "data/file.txt")

    yield thing
    for name in [name for name in sys.modules if name.startswith(("own_module", "own_package"))]:
        del sys.modules[name]


@pytest.mark.parametrize("kind", WITHOUT)
def test_each_kind_is_there_in_setup_jobs_and_cleanup_and_goes_both_ways(
    node: NodeProcess,
    cluster_of: Make,
    things: Callable[[str], Any],
    capfd: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    nodes = [("127.0.0.1", node.port, 0, [], (kind,))]
    cluster = cluster_of(compute, nodes=nodes, depends=[things(kind)], setup=prepare, cleanup=finish)
    for job in [cluster.submit(kind, make(kind)) for _ in range(2)]:
        *found, result = job() or [job.exception]
        assert found == [True, True]
        assert same(kind, result)
    cluster.close()
    assert "cleanup" not in capfd.readouterr().err


@pytest.mark.parametrize("isolation", ["process", "worker"])
def test_each_kind_is_there_for_one_job_and_for_no_other(
    cluster_of: Make, things: Callable[[str], Any], isolation: str
) -> None:
    cluster = cluster_of(job_only, isolation=isolation)
    for kind, without in WITHOUT.items():
        thing = things(kind)
        for depends, found in (([], without), ([thing], True), ([], without)):
            value = make(kind) if depends else None
            job = cluster.options(timeout=60).submit(kind, value, dispy_job_depends=depends)
            told, result = job() or [job.exception, None]
            assert (kind, told) == (kind, found)
            assert not depends or same(kind, result)


# ---- files


def list_files() -> dict[str, str]:
    found = {}
    for base, _, names in os.walk("."):
        for name in names:
            path = os.path.join(base, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path)] = file.read()[:20].decode("latin-1")
    return found


def where_am_i() -> str:
    return os.getcwd()


def sent_to(cluster: dispy.JobCluster) -> int:
    (node,) = cluster.status().nodes
    return int(node.tx)


def test_each_node_gets_its_own_files(node: NodeProcess, cluster_of: Make, folder: Path) -> None:
    for name in ("common", "one", "two"):
        (folder / name).write_text(name)

    class Choosing(dispy.NodeAllocate):
        def allocate(
            self, cluster: Any, ip_addr: str, name: str, cpus: int, *args: Any, **options: Any
        ) -> int:
            self.depends = ["two"]
            return cpus

    nodes = [("127.0.0.1", node.port, 0, ["one"]), Choosing("127.0.0.1", node.port)]
    for element, files in zip(nodes, ({"common", "one"}, {"common", "two"}), strict=True):
        cluster = cluster_of(list_files, nodes=[element], depends=["common"])
        assert set(cluster.submit()()) == files


def test_equal_contents_are_sent_once(cluster_of: Make, folder: Path) -> None:
    data = os.urandom(1_000_000)
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(data)
    cluster = cluster_of(list_files, depends=["a", "b", "c"])
    assert set(cluster.submit()()) == {"a", "b", "c"}
    for _ in range(5):
        cluster.submit()()
    assert sent_to(cluster) < 1_100_000


def test_files_stay_and_are_not_sent_again(
    start_node: Callable[..., Any], cluster_of: Make, folder: Path
) -> None:
    def write(name: str) -> dict[str, str]:
        with open(name, "w") as file:
            file.write(name)
        return {name: os.getcwd()}

    data = os.urandom(1_000_000)
    (folder / "data").write_bytes(data)
    state = folder.parent / "state"
    node = start_node(folder=state)
    where = {"dest_path": "project/data", "cleanup": False, "nodes": [node.address]}
    cluster = cluster_of(write, depends=["data"], **where)
    place = cluster.submit("result")()["result"]
    assert place.endswith("/project/data")
    assert sent_to(cluster) > 1_000_000
    cluster.close()
    node.end()

    node = start_node(folder=state)
    where["nodes"] = [node.address]
    (folder / "renamed").write_bytes(data)
    (folder / "data").write_text("changed")
    cluster = cluster_of(list_files, depends=["data", "renamed"], **where | {"cleanup": True})
    listed = cluster.submit()()
    assert {name: listed[name] for name in ("data", "result")} == {"data": "changed", "result": "result"}
    assert listed["renamed"] == data[:20].decode("latin-1")
    assert sent_to(cluster) < 100_000, "the content was there under another name"
    cluster.close()
    assert sorted(path.name for path in Path(place).iterdir()) == ["data", "result"], "what had stayed stays"
    other = cluster_of(list_files, nodes=[node.address], dest_path="project")
    assert other.submit()() == {}, "folders do not lie in each other"


def test_files_of_a_cluster_with_cleanup_go(
    node: Any, cluster_of: Make, folder: Path, eventually: Callable[..., None]
) -> None:
    (folder / "data").write_text("x")
    cluster = cluster_of(where_am_i, depends=["data"], dest_path="d")
    place = Path(cluster.submit()())
    assert (place / "data").exists()
    cluster.close()
    eventually(lambda: not place.exists(), "the folder is gone")


class CuttingProxy:
    """Passes connections on to a node, and cuts the first one when so many bytes have gone there."""

    def __init__(self, port: int, cut_after: int) -> None:
        self._target = port
        self._cut_after = cut_after
        self.sent = 0
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                node = socket.create_connection(("127.0.0.1", self._target))
                self.connections += 1
                self._ends += [client, node]
                for pair in ((client, node), (node, client)):
                    threading.Thread(
                        target=self._pass_on, args=(*pair, pair[0] is client), daemon=True
                    ).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if counts:
                    self.sent += len(data)
                    if self.connections == 1 and self.sent > self._cut_after:
                        break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def test_a_large_file_goes_on_where_the_connection_broke(node: Any, cluster_of: Make, folder: Path) -> None:
    def digest(*names: str) -> list[str]:
        import hashlib

        return [hashlib.sha256(open(name, "rb").read()).hexdigest() for name in names]

    size = 40 * 1024 * 1024
    content = os.urandom(size)
    (folder / "large").write_bytes(content)
    (folder / "again").write_bytes(content)
    proxy = CuttingProxy(node.port, size // 2)
    try:
        cluster = cluster_of(digest, nodes=[proxy.address], depends=["large", "again"])
        job = cluster.submit("large", "again")
        assert job() == [hashlib.sha256(content).hexdigest()] * 2
        cluster.close()
        assert proxy.connections > 1
        assert size < proxy.sent < 1.3 * size
    finally:
        proxy.close()


# ---- what one job brings


def read(name: str, seconds: float = 0.0) -> str:
    import time

    time.sleep(seconds)
    with open(name) as file:
        return file.read(20)


def test_files_of_jobs_go_with_them(cluster_of: Make, folder: Path) -> None:
    cluster = cluster_of(read)
    sizes = [10, 1_000_000, 15, 1_000_001]
    names = [f"sub/{number}.txt" for number in range(4)]
    (folder / "sub").mkdir()
    for number, size in enumerate(sizes):
        (folder / names[number]).write_text(f"{number}" * size)
    jobs = [cluster.submit(name, dispy_job_depends=[name]) for name in names]
    assert [job() for job in jobs] == [f"{number}" * min(size, 20) for number, size in enumerate(sizes)]
    gone = cluster.submit(names[0])
    assert gone() is None
    assert "FileNotFoundError" in gone.exception


def test_files_of_programs_and_of_killed_jobs_go_too(
    node: Any, cluster_of: Make, folder: Path, eventually: Callable[..., None]
) -> None:
    (folder / "show.sh").write_text("#!/bin/sh\nls; cat $1\n")
    (folder / "show.sh").chmod(0o755)
    (folder / "data").write_text("content")
    cluster = cluster_of("show.sh", depends=[])
    assert cluster.submit("data", dispy_job_depends=["data"])() == 0
    job = cluster.submit("data")
    assert job() == 1
    assert job.stdout == b"show.sh\n"

    cluster = cluster_of(read)
    job = cluster.submit("data", 600, dispy_job_depends=["data"])
    eventually(lambda: job.status == dispy.DispyJob.Running, "the job runs")
    cluster.cancel(job)
    job()
    after = cluster.submit("data")
    assert after() is None
    assert "FileNotFoundError" in after.exception


def test_the_same_name_with_other_content_is_refused_while_it_is_used(
    cluster_of: Make, folder: Path, eventually: Callable[..., None]
) -> None:
    (folder / "data").write_text("first")
    cluster = cluster_of(read)
    first = cluster.submit("data", 1.5, dispy_job_depends=["data"])
    eventually(lambda: first.status == dispy.DispyJob.Running, "the first job runs")
    time.sleep(0.3)
    (folder / "data").write_text("second")
    second = cluster.submit("data", dispy_job_depends=["data"])
    assert second() is None
    assert "file 'data' of dispy_job_depends is on node" in second.exception
    assert first() == "first"
    assert cluster.submit("data", dispy_job_depends=["data"])() == "second"


# ---- what goes wrong


def test_what_is_missing_is_named(cluster_of: Make) -> None:
    def compute(how: str) -> object:
        if how == "name":
            return eval("helper_of_mine(1)")
        return __import__("module_of_mine")

    cluster = cluster_of(compute)
    for how, missing in (
        ("name", "there is no 'helper_of_mine'"),
        ("module", "module 'module_of_mine' is not"),
    ):
        job = cluster.submit(how)
        assert job() is None
        assert f"dispy: {missing}" in job.exception
        assert "depends=[...]" in job.exception


PACKAGE = """
import importlib.resources, os, pkgutil

def data():
    with open(os.path.join(os.path.dirname(__file__), "data.txt")) as file:
        yield file.read()
    yield importlib.resources.files(__package__).joinpath("data.txt").read_text()
    yield pkgutil.get_data(__name__, "data.txt").decode()
"""

SCRIPT = """
def compute(name):
    import importlib, inspect, own_with_data
    if name == "traceback":
        return 1 // 0  # in this line
    if name == "source":
        return inspect.getsource(compute)
    return list(importlib.import_module(name).data())
"""


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_shipped_code_has_its_data_and_lines_though_the_client_is_elsewhere(
    cluster_of: Make, folder: Path, monkeypatch: pytest.MonkeyPatch, start_method: str
) -> None:
    (folder / "own_with_data").mkdir()
    for name, text in {"__init__.py": PACKAGE, "inner.py": PACKAGE, "data.txt": "data"}.items():
        (folder / "own_with_data" / name).write_text(text)
    (folder / "script.py").write_text(SCRIPT)
    monkeypatch.syspath_prepend(folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(SCRIPT, str(folder / "script.py"), "exec"), names)
    module = importlib.import_module("own_with_data")
    try:
        whole = cluster_of(names["compute"], depends=[module], start_method=start_method)
        text = cluster_of(names["compute"], start_method=start_method)
        assert whole.wait_for_nodes(timeout=60)
        assert text.wait_for_nodes(timeout=60)
    finally:
        for name in [name for name in sys.modules if name.startswith("own_with_data")]:
            del sys.modules[name]
    folder.rename(folder.with_name("away"))  # now no path of the client leads anywhere
    assert whole.submit("own_with_data")() == whole.submit("own_with_data.inner")() == 3 * ["data"]
    assert whole.submit("source")() == SCRIPT.lstrip("\n")
    failed = whole.submit("traceback")
    failed.wait(60)
    assert "script.py" in failed.exception
    assert "return 1 // 0  # in this line" in failed.exception
    missing = text.submit("own_with_data")
    missing.wait(60)
    assert "FileNotFoundError" in missing.exception


@pytest.mark.parametrize("change", ["grows", "vanishes"])
def test_a_file_that_changes_before_it_is_sent(
    node: Any, cluster_of: Make, folder: Path, change: str
) -> None:
    (folder / "data").write_bytes(bytes(1_000_000))

    class Changing(dispy.NodeAllocate):
        def allocate(
            self, cluster: Any, ip_addr: str, name: str, cpus: int, *args: Any, **options: Any
        ) -> int:
            if change == "grows":
                os.truncate(folder / "data", 1_000_001)
            else:
                (folder / "data").unlink()
            return cpus

    job = cluster_of(read, nodes=[Changing("127.0.0.1", node.port)], depends=["data"]).submit("data")
    assert job() is None
    problem = "No such file or directory" if change == "vanishes" else "has changed since it was named"
    assert problem in job.exception
    assert "data" in job.exception
    assert cluster_of(list_files).submit()() == {}, "nothing is left, and the node goes on"


def test_what_the_owner_of_a_node_limits(
    start_node: Callable[..., Any], cluster_of: Make, folder: Path, eventually: Callable[..., None]
) -> None:
    def send(size: int) -> Any:
        with open("result", "wb") as file:
            file.truncate(size)
        return dispy_send_file("result")  # type: ignore[name-defined]  # noqa: F821

    (folder / "data").write_bytes(bytes(2000))
    node = start_node("--max-file-size", "1k", "--force-cleanup")
    limited: dict[str, Any] = {"nodes": [node.address]}
    refused = "file 'data' has 2000 bytes, more than the 1024 of the node's --max-file-size"
    job = cluster_of(send, depends=["data"], **limited).submit(5)
    assert job() is None
    assert refused in job.exception
    cluster = cluster_of(send, **limited)
    job = cluster.submit(5, dispy_job_depends=["data"])
    assert job() is None
    assert refused in job.exception
    assert cluster.send_file("data", cluster.status().nodes[0]) == -1
    assert [cluster.submit(size)() for size in (1024, 1025)] == [0, -1]
    with pytest.raises(UsageError, match="file 'data' has 2000 bytes, more than the 1000 of max_file_size"):
        cluster_of(send, depends=["data"], max_file_size=1000)
    small = cluster_of(send, max_file_size=1000, **limited)
    assert [small.submit(size)() for size in (1000, 1001)] == [0, -1]
    forced = cluster_of(where_am_i, cleanup=False, **limited)
    place = Path(forced.submit()())
    forced.close()
    eventually(lambda: not place.exists(), "the folder is gone")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_is_told_and_harms_nobody_else(
    start_node: Callable[..., Any], cluster_of: Make, folder: Path
) -> None:
    disk = folder.parent / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        (folder / "large").write_bytes(os.urandom(5_000_000))
        (folder / "half").write_bytes(half := os.urandom(1_700_000))
        (folder / "again").write_bytes(half)
        node = start_node(folder=disk)
        options: dict[str, Any] = {"nodes": [node.address]}
        good = cluster_of(list_files, **options)
        assert good.submit()() == {}
        for depends in (["large"], ["half", "again"]):
            job = cluster_of(list_files, depends=depends, **options).submit()
            assert job() is None
            assert "the disk of the node is full" in job.exception
        for depends in (["large"], ["half"]):
            job = good.submit(dispy_job_depends=depends)
            assert job() is None
            assert "disk" in job.exception or "No space left" in job.exception
        assert good.submit()() == {}
        good.close()
        node.end()
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_of_the_client_costs_the_file_only(
    start_node: Callable[..., Any],
    cluster_of: Make,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def send(name: str, size: int) -> Any:
        with open(name, "wb") as file:
            file.truncate(size)
        return dispy_send_file(name)  # type: ignore[name-defined]  # noqa: F821

    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        monkeypatch.chdir(disk)
        cluster = cluster_of(send, nodes=[start_node(cpus=1).address])
        jobs = [
            cluster.submit(*file) for file in (("large", 5_000_000), ("small", 1000), ("other", 1_000_000))
        ]
        assert [job() for job in jobs] == [-1, 0, 0], "the only slot is free again, and so is the disk"
        cluster.close()
        assert sorted(path.name for path in disk.iterdir()) == ["other", "small"]
        told = [line for line in capsys.readouterr().out.splitlines() if "was not taken" in line]
        assert len(told) == 1
        assert "file 'large' of job" in told[0]
        assert "No space left on device" in told[0]
    finally:
        monkeypatch.undo()
        subprocess.run(["umount", "-l", disk], check=False)
