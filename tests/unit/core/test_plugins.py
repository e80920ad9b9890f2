from __future__ import annotations

import importlib.metadata
import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

import click
import pytest
import trio

from dispy.discovery import Discovery, DiscoveryListener, DiscoveryScope, Presence
from dispy.errors import ConflictingInstall, PluginConflict, PluginError, PluginNotInstalled
from dispy.hookspecs import JobEvent, NodeEvent, hookimpl
from dispy.interfaces import (
    API_VERSION,
    Address,
    Allocator,
    Command,
    Credential,
    Credentials,
    Executor,
    ExecutorPlan,
    ExecutorRequest,
    FaultPolicy,
    Identity,
    LostAttempt,
    Peer,
    SecurityRequest,
    StreamSecurity,
    Transport,
    Verdict,
)
from dispy.model import JobId, JobStatus, NodeStatus
from dispy.plugins import PluginManager

JOB = JobEvent(JobId(1), "compute", JobStatus.FINISHED, "node1")
NODE = NodeEvent("node1", "10.0.0.1", NodeStatus.INITIALIZED, "compute")


class PigeonTransport(Transport):
    NAME = "pigeon"
    API_VERSION = API_VERSION

    async def dial(self, address: Address, *, local_host: str | None = None) -> tuple[trio.abc.Stream, Peer]:
        raise NotImplementedError

    def listen(self, addresses: object, handler: object) -> object:  # type: ignore[override]
        raise NotImplementedError


class WaxSecurity(StreamSecurity):
    NAME = "wax"
    API_VERSION = API_VERSION

    async def connect(
        self, stream: trio.abc.Stream, credential: Credential
    ) -> tuple[trio.abc.Stream, Identity]:
        raise NotImplementedError

    async def accept(
        self, stream: trio.abc.Stream, credentials: Sequence[Credential]
    ) -> tuple[trio.abc.Stream, Identity]:
        raise NotImplementedError


class RingCredentials(Credentials):
    NAME = "ring"
    API_VERSION = API_VERSION

    def load(self, request: SecurityRequest) -> Sequence[Credential]:
        raise NotImplementedError


class LastAllocator(Allocator):
    NAME = "last"
    API_VERSION = API_VERSION

    def rank(self, busy: int, slots: int) -> float:
        return -busy


class PatientPolicy(FaultPolicy):
    NAME = "patient"
    API_VERSION = API_VERSION
    HONOURS_REENTRANT = True

    def decide(self, lost: LostAttempt) -> Verdict:
        return Verdict.RERUN if lost.reentrant else Verdict.ABANDON


class HastyPolicy(PatientPolicy):
    NAME = "hasty"
    HONOURS_REENTRANT = False


class RerunPolicy(PatientPolicy):
    NAME = "rerun"


class SandboxExecutor(Executor):
    NAME = "sandbox"
    API_VERSION = API_VERSION

    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        return ExecutorPlan(["sandbox"])


class HelloCommand(Command):
    NAME = "hello"
    API_VERSION = API_VERSION
    HELP = "Say hello."

    def build(self) -> click.Command:
        return click.Command(self.NAME)


class ByeCommand(HelloCommand):
    NAME = "bye"


class SickCommand(HelloCommand):
    NAME = "sick"

    def __init__(self) -> None:
        raise RuntimeError("bad day")


class Offering:
    """A plugin that offers what it is made with."""

    def __init__(self, *classes: type[object]) -> None:
        self.classes = classes

    def _of(self, base: type[object]) -> list[type[object]]:
        return [offered for offered in self.classes if issubclass(offered, base)]

    @hookimpl
    def dispy_register_transport(self) -> list[type[object]]:
        return self._of(Transport)

    @hookimpl
    def dispy_register_security(self) -> list[type[object]]:
        return self._of(StreamSecurity)

    @hookimpl
    def dispy_register_credentials(self) -> list[type[object]]:
        return self._of(Credentials)

    @hookimpl
    def dispy_register_discovery(self) -> list[type[object]]:
        return self._of(Discovery)

    @hookimpl
    def dispy_register_executor(self) -> list[type[object]]:
        return self._of(Executor)

    @hookimpl
    def dispy_register_fault_policy(self) -> list[type[object]]:
        return self._of(FaultPolicy)

    @hookimpl
    def dispy_register_allocator(self) -> list[type[object]]:
        return self._of(Allocator)

    @hookimpl
    def dispy_register_command(self) -> list[type[object]]:
        return self._of(Command)


class Recorder:
    def __init__(self) -> None:
        self.jobs: list[JobEvent] = []
        self.nodes: list[NodeEvent] = []

    @hookimpl
    def dispy_on_jobs(self, changes: Sequence[JobEvent]) -> None:
        self.jobs += changes

    @hookimpl
    def dispy_on_nodes(self, changes: Sequence[NodeEvent]) -> None:
        self.nodes += changes


def manager(*plugins: object, installed: Sequence[EntryPoint] = ()) -> PluginManager:
    """Make a manager that sees only what is built in and what the test gives."""
    return PluginManager.load(plugins, entry_points=installed)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a folder for distributions and modules that a test writes, on the import path."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def install(site: Path, name: str, version: str, *, source: str | None = None, entry: str = "") -> None:
    """Write what pip would: metadata, an entry point, and the module that it names."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if source is not None:
        module = f"plugin_of_{name.replace('-', '_')}"
        (folder / "entry_points.txt").write_text(f"[dispy]\n{entry} = {module}\n")
        (site / f"{module}.py").write_text(source)


def installed_in(site: Path) -> list[EntryPoint]:
    found = []
    for distribution in importlib.metadata.distributions(path=[str(site)]):
        found += [point for point in distribution.entry_points if point.group == "dispy"]
    return sorted(found, key=lambda point: point.name)


# One test for each hook: what a plugin gives arrives where it is wanted.


def test_hook_register_transport() -> None:
    plugins = manager(Offering(PigeonTransport))
    assert type(plugins.transport("pigeon")) is PigeonTransport
    assert plugins.transport("pigeon") is plugins.transport("pigeon")


def test_hook_register_security() -> None:
    plugins = manager(Offering(WaxSecurity))
    assert type(plugins.security("wax")) is WaxSecurity
    assert plugins.security("wax") is plugins.security("wax")


def test_hook_register_credentials() -> None:
    plugins = manager(Offering(RingCredentials))
    assert type(plugins.credentials("ring")) is RingCredentials
    assert plugins.credentials("ring") is plugins.credentials("ring")


def test_hook_register_executor() -> None:
    assert type(manager(Offering(SandboxExecutor)).executor("sandbox")) is SandboxExecutor


def test_hook_register_allocator() -> None:
    plugins = manager(Offering(LastAllocator))
    assert type(plugins.allocator("last")) is LastAllocator
    with pytest.raises(PluginNotInstalled, match=r"dispy-core\[std\]"):
        plugins.allocator("pack")
    with pytest.raises(PluginError, match=r"no installed plugin offers the allocator 'lost' \(there: last\)"):
        plugins.allocator("lost")


def test_hook_register_fault_policy() -> None:
    assert type(manager(Offering(PatientPolicy)).fault_policy(need_reentrant=True)) is PatientPolicy


class Looking(Discovery):
    NAME = "looking"
    API_VERSION = API_VERSION

    async def search(self, scope: DiscoveryScope, listener: DiscoveryListener) -> None:
        raise NotImplementedError

    async def announce(self, scope: DiscoveryScope, presence: Presence) -> None:
        raise NotImplementedError


class Asking(Looking):
    NAME = "asking"


class Blind(Looking):
    NAME = "blind"

    def __init__(self) -> None:
        raise RuntimeError("no eyes")


def test_hook_register_discovery(caplog: pytest.LogCaptureFixture) -> None:
    plugins = manager(Offering(Looking, Asking, Blind))
    assert [type(discovery) for discovery in plugins.discoveries()] == [Asking, Looking]
    assert "no eyes" in caplog.text
    assert manager().discoveries() == []


def test_hook_register_command() -> None:
    plugins = manager(Offering(HelloCommand, ByeCommand))
    assert [type(command) for command in plugins.commands()] == [ByeCommand, HelloCommand]
    assert type(plugins.command("hello")) is HelloCommand


def test_hook_on_jobs() -> None:
    recorder = Recorder()
    plugins = manager(recorder)
    plugins.on_jobs([JOB, JOB])
    plugins.on_jobs([JOB])
    assert recorder.jobs == [JOB, JOB, JOB]


def test_hook_on_nodes() -> None:
    recorder = Recorder()
    manager(recorder).on_nodes([NODE])
    assert recorder.nodes == [NODE]


# Observers


def test_job_observers_are_known() -> None:
    assert not manager(Offering(PigeonTransport)).has_job_observers
    assert manager(Recorder()).has_job_observers


def test_failing_observer_is_logged_loudly_once_and_stops_nothing(
    site: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = (
        "from dispy.hookspecs import hookimpl\n"
        "@hookimpl\n"
        "def dispy_on_jobs(changes):\n"
        "    raise ZeroDivisionError('one over nothing')\n"
    )
    install(site, "dispy-faulty", "3.1", source=source, entry="faulty")
    recorder = Recorder()
    plugins = manager(recorder, installed=installed_in(site))
    with caplog.at_level(logging.DEBUG, "dispy"):
        plugins.on_jobs([JOB])
        plugins.on_jobs([JOB])
    assert recorder.jobs == [JOB, JOB]
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "plugin 'faulty' of dispy-faulty 3.1 failed in dispy_on_jobs, which is ignored"),
        (logging.DEBUG, "plugin 'faulty' of dispy-faulty 3.1 failed in dispy_on_jobs, which is ignored"),
    ]
    assert "one over nothing" in caplog.text


# Fault policies


def test_bare_core_gives_jobs_up() -> None:
    assert manager().fault_policy(need_reentrant=False).NAME == "cancel"


def test_reentrant_needs_a_policy_that_honours_it() -> None:
    with pytest.raises(PluginNotInstalled, match=r"reentrant=True.*pip install 'dispy-core\[std\]'"):
        manager().fault_policy(need_reentrant=True)


@pytest.mark.parametrize("need_reentrant", [False, True])
def test_rerun_wins_over_cancel_and_others_over_both(need_reentrant: bool) -> None:
    assert manager(Offering(RerunPolicy)).fault_policy(need_reentrant).NAME == "rerun"
    assert manager(Offering(PatientPolicy, RerunPolicy)).fault_policy(need_reentrant).NAME == "patient"


def test_two_foreign_policies_are_a_conflict() -> None:
    with pytest.raises(
        PluginConflict, match=r"more than one fault policy is installed: 'hasty' of .* and 'patient'"
    ):
        manager(Offering(PatientPolicy, HastyPolicy)).fault_policy(need_reentrant=False)


def test_foreign_policy_that_does_not_honour_reentrant_is_named() -> None:
    plugins = manager(Offering(HastyPolicy, RerunPolicy))
    assert plugins.fault_policy(need_reentrant=False).NAME == "hasty"
    with pytest.raises(PluginError, match="'hasty' of plugin 'Offering' does not; uninstall it"):
        plugins.fault_policy(need_reentrant=True)


def test_broken_faults_plugin_is_told_instead_of_a_pip_line(site: Path) -> None:
    install(site, "dispy-faults", "5.0", source="import no_such_module", entry="faults")
    with pytest.raises(PluginError, match=r"'faults' of dispy-faults 5.0 cannot be used: .*no_such_module"):
        manager(installed=installed_in(site)).fault_policy(need_reentrant=True)


# What is wrong


def test_missing_transport_tells_the_extra() -> None:
    with pytest.raises(PluginNotInstalled, match=r"'tcp' is not installed.*dispy-core\[tcp\]"):
        manager().transport("tcp")


def test_missing_security_tells_the_extra() -> None:
    with pytest.raises(PluginNotInstalled, match=r"security 'ssl' is not installed.*dispy-core\[ssl\]"):
        manager().security("ssl")


@pytest.mark.parametrize("name", ["secret", "certificate"])
def test_missing_credentials_tell_the_extra(name: str) -> None:
    with pytest.raises(PluginNotInstalled, match=rf"'{name}' is not installed.*dispy-core\[ssl\]"):
        manager().credentials(name)


@pytest.mark.parametrize("name", ["function", "program"])
def test_missing_executor_tells_the_extra(name: str) -> None:
    with pytest.raises(PluginNotInstalled, match=r"dispy-core\[local\]"):
        manager().executor(name)


def test_unknown_transport_tells_what_is_there() -> None:
    with pytest.raises(
        PluginError, match=r"no installed plugin offers the transport 'owl' \(there: pigeon\)"
    ):
        manager(Offering(PigeonTransport)).transport("owl")


def test_plugin_that_cannot_be_imported_takes_nobody_down(
    site: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(site, "dispy-owl", "0.9", source="raise RuntimeError('hoot')", entry="owl")
    install(site, "dispy-odd", "0.1", source="import no_such_module", entry="odd")
    with caplog.at_level(logging.WARNING, "dispy"):
        plugins = manager(Offering(PigeonTransport), installed=installed_in(site))
    assert [message for message in caplog.messages if "dispy-owl 0.9" in message] == [
        "plugin 'owl' of dispy-owl 0.9 is not used: it could not be loaded: RuntimeError: hoot"
    ]
    assert type(plugins.transport("pigeon")) is PigeonTransport
    with pytest.raises(
        PluginError, match=r"plugin 'owl' of dispy-owl 0.9 cannot be used: .*RuntimeError: hoot"
    ):
        plugins.transport("owl")
    infos = {info.name: info for info in plugins.describe()}
    assert (infos["owl"].dist, infos["owl"].version, infos["owl"].hooks) == ("dispy-owl", "0.9", ())
    assert "hoot" in infos["owl"].error
    assert "no_such_module" in infos["odd"].error


def test_installed_plugin_that_does_not_fit_is_set_aside(site: Path) -> None:
    source = "from dispy.hookspecs import hookimpl\n@hookimpl\nasync def dispy_on_jobs(changes):\n    pass\n"
    install(site, "dispy-later", "1.0", source=source, entry="later")
    plugins = manager(installed=installed_in(site))
    plugins.on_jobs([JOB])
    assert not plugins.has_job_observers
    assert "async function" in {info.name: info.error for info in plugins.describe()}["later"]


def test_extra_plugin_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(PluginError, match="has no hooks"):
        manager(object())


def test_extra_plugin_that_is_installed_too_is_taken_once(site: Path) -> None:
    source = (
        "from dispy.hookspecs import hookimpl\n"
        "seen = []\n"
        "@hookimpl\n"
        "def dispy_on_jobs(changes):\n"
        "    seen.extend(changes)\n"
    )
    install(site, "dispy-single", "1.0", source=source, entry="single")
    (entry_point,) = installed_in(site)
    module = entry_point.load()
    manager(module, installed=[entry_point]).on_jobs([JOB])
    assert module.seen == [JOB]


def test_two_plugins_with_one_name_are_named(site: Path) -> None:
    source = (
        "from dispy.hookspecs import hookimpl\n"
        "from test_plugins_pigeon import PigeonTransport\n"
        "class Mine(PigeonTransport): pass\n"
        "@hookimpl\n"
        "def dispy_register_transport(): return Mine\n"
    )
    (site / "test_plugins_pigeon.py").write_text("")
    sys.modules["test_plugins_pigeon"] = sys.modules[__name__]
    try:
        install(site, "dispy-grey", "1.0", source=source, entry="grey")
        install(site, "dispy-white", "2.0", source=source, entry="white")
        plugins = manager(installed=installed_in(site))
        with pytest.raises(
            PluginConflict, match=r"dispy-grey 1\.0 and .*dispy-white 2\.0 offer the transport 'pigeon'"
        ):
            plugins.transport("pigeon")
    finally:
        del sys.modules["test_plugins_pigeon"]


def test_commands_that_cannot_be_made_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    plugins = manager(Offering(HelloCommand, SickCommand))
    with caplog.at_level(logging.WARNING, "dispy"):
        assert [command.NAME for command in plugins.commands()] == ["hello"]
    assert "the command 'sick'" in caplog.text
    with pytest.raises(PluginError, match="bad day"):
        plugins.command("sick")


def test_plugin_added_later_is_seen() -> None:
    plugins = manager()
    assert plugins.commands() == []
    plugins.add(Offering(HelloCommand), "late", dist="dispy-late")
    assert [command.NAME for command in plugins.commands()] == ["hello"]


# Description, and the environment


def test_describe_lists_everything() -> None:
    infos = manager(Offering(PigeonTransport), Recorder()).describe()
    assert [(info.name, info.hooks) for info in infos if info.name != "log-jobs"] == [
        ("faults-cancel", ("dispy_register_fault_policy",)),
        ("log-nodes", ("dispy_on_nodes",)),
        (
            "Offering",
            (
                "dispy_register_allocator",
                "dispy_register_command",
                "dispy_register_credentials",
                "dispy_register_discovery",
                "dispy_register_executor",
                "dispy_register_fault_policy",
                "dispy_register_security",
                "dispy_register_transport",
            ),
        ),
        ("Recorder", ("dispy_on_jobs", "dispy_on_nodes")),
    ]
    assert {info.error for info in infos} == {""}
    assert infos[0].dist == "dispy-core"


def test_original_dispy_is_refused(site: Path) -> None:
    install(site, "dispy", "4.15.2")
    with pytest.raises(ConflictingInstall) as caught:
        manager()
    text = str(caught.value)
    assert "the original dispy 4.15.2" in text
    assert [line.strip() for line in text.splitlines()[1:]] == [
        "pip uninstall dispy",
        "pip install --force-reinstall dispy-core",
    ]


def test_other_distributions_are_not_the_original(site: Path) -> None:
    install(site, "dispy-something", "1.0")
    assert manager().describe()


def test_import_looks_nothing_up() -> None:
    program = (
        "import importlib.metadata, sys\n"
        "def refuse(*args, **kwargs): raise AssertionError('looked up')\n"
        "importlib.metadata.entry_points = importlib.metadata.distribution = refuse\n"
        "import dispy.plugins\n"
        "assert 'trio' not in sys.modules, 'trio is imported'\n"
        "assert not [name for name in sys.modules if name.startswith('dispy_')]\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
