from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from dispy.errors import PluginError, UsageError
from dispy.interfaces import API_VERSION, Executor, ExecutorPlan, ExecutorRequest
from dispy_node.confine import confinement as module
from dispy_node.confine.confinement import Confinement, refuse_as_job_executor
from dispy_node.executors import FunctionExecutor
from dispy_node.storage import StateFolder


class Outer(Executor):
    """Puts a word before the command."""

    NAME: ClassVar[str] = "outer"
    API_VERSION: ClassVar[int] = API_VERSION
    WRAPS: ClassVar[bool] = True
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"outer", "size", "colour"})
    words: ClassVar[list[str]] = ["/usr/bin/env"]

    def __init__(self) -> None:
        self.checked: list[ExecutorRequest] = []
        self.ended: list[ExecutorRequest] = []

    def check(self, request: ExecutorRequest) -> None:
        self.checked.append(request)

    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        assert request.inner is not None
        return dataclasses.replace(request.inner, command=[*self.words, *request.inner.command])

    def finished(self, request: ExecutorRequest) -> None:
        self.ended.append(request)


class Other(Outer):
    NAME: ClassVar[str] = "other"
    words: ClassVar[list[str]] = ["/usr/bin/nice"]


class Plugins:
    def __init__(self) -> None:
        self.known = {"outer": Outer(), "other": Other(), "function": FunctionExecutor()}

    def find(self, name: str) -> Executor:
        if name not in self.known:
            raise PluginError(f"no installed plugin offers the executor {name!r}")
        return self.known[name]


@pytest.fixture
def plugins() -> Plugins:
    return Plugins()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateFolder]:
    state = StateFolder(tmp_path / "node")
    yield state
    state.close()


REQUEST = ExecutorRequest("compute", Path("/f"), "process", Path("/s"), Path("/"))


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("outer", {}),
        ("outer=x", {"outer": "x"}),
        ("outer:size=2G", {"size": "2G"}),
        ("outer=x:size=2G,colour=red=blue", {"outer": "x", "size": "2G", "colour": "red=blue"}),
    ],
)
def test_what_is_written_is_understood(plugins: Plugins, text: str, options: dict[str, str]) -> None:
    (layer,) = Confinement.parse([text], plugins.find).layers
    assert layer.executor is plugins.known["outer"]
    assert layer.options == options


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["outre"], "offers the executor 'outre'"),
        ([""], "offers the executor ''"),
        (["function"], "'function' runs jobs and confines nothing; write user=NAME"),
        (["outer:shape=round"], "no option 'shape'; there are: colour, outer, size"),
        (["outer:size"], "'size' is not understood; write outer:OPTION=VALUE"),
        (["outer:size=1,size=2"], "'size=2' is not understood"),
        (["outer", "other", "outer=x"], "outer is there twice"),
    ],
)
def test_what_makes_no_sense_is_refused(plugins: Plugins, texts: list[str], told: str) -> None:
    with pytest.raises((UsageError, PluginError), match=told):
        Confinement.parse(texts, plugins.find)


def test_plan_is_wrapped_in_the_order_given(plugins: Plugins) -> None:
    confinement = Confinement.parse(["outer", "other"], plugins.find)
    plan = confinement.wrap(REQUEST, ExecutorPlan(["runner"], {"NAME": "value"}))
    assert plan == ExecutorPlan(["/usr/bin/nice", "/usr/bin/env", "runner"], {"NAME": "value"})


def test_without_confinement_plans_stay_as_they_are(state: StateFolder) -> None:
    plan = ExecutorPlan(["runner"])
    assert Confinement().wrap(REQUEST, plan) is plan
    Confinement().check(state)
    Confinement().finished(REQUEST)


def test_keys_are_named_to_each_kind(plugins: Plugins, state: StateFolder) -> None:
    outer = plugins.known["outer"]
    assert isinstance(outer, Outer)
    Confinement.parse(["outer"], plugins.find, [Path("/key")]).check(state)
    assert [request.secrets for request in (*outer.checked, *outer.ended)] == [(Path("/key"),)] * 2


def test_end_is_told_with_the_options(plugins: Plugins) -> None:
    outer = plugins.known["outer"]
    assert isinstance(outer, Outer)
    Confinement.parse(["outer:size=2"], plugins.find).finished(REQUEST)
    (told,) = outer.ended
    assert (told.spool, told.options) == (REQUEST.spool, {"size": "2"})


def test_rehearsal_leaves_nothing(plugins: Plugins, state: StateFolder) -> None:
    outer = plugins.known["outer"]
    assert isinstance(outer, Outer)
    Confinement.parse(["outer:size=2"], plugins.find).check(state)
    (asked,), (ended,) = outer.checked, outer.ended
    assert (asked.folder, asked.spool, asked.state) == (state.computations, state.spool, state.path)
    assert ended.spool.parent == state.spool
    assert not list(state.spool.iterdir())
    assert not list(state.computations.iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["/no/such/program"], "No such file"),
        (
            ["/bin/sh", "-c", "echo first >&2; echo the reason >&2; exit 3"],
            "outer does not work .*: the reason;",
        ),
        (["/bin/sh", "-c", "exit 3"], "ended with status 3"),
        (["/bin/true"], "is not there"),
    ],
    ids=["no program", "says why", "says nothing", "elsewhere"],
)
def test_what_does_not_work_is_found_before_the_node_starts(
    plugins: Plugins, state: StateFolder, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.setattr(Outer, "words", words)
    outer = plugins.known["outer"]
    assert isinstance(outer, Outer)
    with pytest.raises(UsageError, match=told):
        Confinement.parse(["outer"], plugins.find).check(state)
    assert len(outer.ended) == 1
    assert not list(state.computations.iterdir())


def test_rehearsal_that_hangs_is_given_up(
    plugins: Plugins, state: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REHEARSAL_S", 0.1)
    monkeypatch.setattr(Outer, "words", [sys.executable, "-c", "import time; time.sleep(600)"])
    with pytest.raises(UsageError, match="did not end within 0 seconds"):
        Confinement.parse(["outer"], plugins.find).check(state)


def test_rehearsal_gives_no_secrets(
    plugins: Plugins, state: StateFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DISPY_SECRET", "geheim")
    told = tmp_path / "told"
    monkeypatch.setattr(Outer, "words", ["/bin/sh", "-c", f'env > {told}; exec "$@"', "sh"])
    Confinement.parse(["outer"], plugins.find).check(state)
    assert "geheim" not in told.read_text()
    assert f"PATH={os.environ['PATH']}" in told.read_text()


def test_variables_are_let_through_only_where_jobs_are_confined(plugins: Plugins) -> None:
    assert Confinement().let_through is None
    assert Confinement.parse([], plugins.find).let_through is None
    assert Confinement.parse(["outer"], plugins.find).let_through == set()
    assert Confinement.parse(["outer"], plugins.find, (), ["NAME"]).let_through == {"NAME"}
    with pytest.raises(UsageError, match="--env NAME is of use only with --confine"):
        Confinement.parse([], plugins.find, (), ["NAME"])
    with pytest.raises(UsageError, match="jobs never get"):
        Confinement.parse(["outer"], plugins.find, (), ["DISPY_SECRET"])


def test_rehearsal_has_the_variables_of_jobs(
    plugins: Plugins, state: StateFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LET_THROUGH", "value")
    monkeypatch.setenv("KEPT_BACK", "value")
    told = tmp_path / "told"
    monkeypatch.setattr(Outer, "words", ["/bin/sh", "-c", f'env > {told}; exec "$@"', "sh"])
    Confinement.parse(["outer"], plugins.find, (), ["LET_THROUGH"]).check(state)
    assert "LET_THROUGH=value" in told.read_text()
    assert "KEPT_BACK" not in told.read_text()


@pytest.mark.parametrize(
    ("kinds", "warned"),
    [("cgroup", True), ("cgroup outer", True), ("cgroup user", False), ("bubblewrap cgroup", False)],
)
def test_limits_that_jobs_can_lift_are_told(
    state: StateFolder, caplog: pytest.LogCaptureFixture, kinds: str, warned: bool
) -> None:
    class Kind(Outer):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.NAME = name  # type: ignore[misc]

    Confinement.parse(kinds.split(), Kind).check(state)
    text = "cgroup alone bounds mistakes.*; add --confine user=NAME or --confine bubblewrap"
    assert bool(re.search(text, caplog.text)) is warned


def test_client_cannot_choose_what_only_confines(plugins: Plugins) -> None:
    refuse_as_job_executor(FunctionExecutor())
    with pytest.raises(UsageError, match="'outer' confines jobs.*use 'function' or 'program'"):
        refuse_as_job_executor(plugins.find("outer"))
