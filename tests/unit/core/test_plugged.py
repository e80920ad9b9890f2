from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from dispy.errors import PluginError
from dispy.hookspecs import JobEvent, hookimpl
from dispy.plugged import TRACE_VARIABLE, Plugged


class Observer:
    def __init__(self) -> None:
        self.seen: list[object] = []

    @hookimpl
    def dispy_on_jobs(self, changes: Sequence[JobEvent]) -> None:
        self.seen.append(changes)

    def dispy_on_nodes(self) -> None:
        """Not a hook: it is not marked."""


class Misspelled:
    @hookimpl
    def dispy_on_job(self, changes: Sequence[JobEvent]) -> None:
        """Implement nothing that exists."""


class WrongParameters:
    @hookimpl
    def dispy_on_jobs(self, events: Sequence[JobEvent]) -> None:
        """Ask for something that dispy does not give."""


class Async:
    @hookimpl
    async def dispy_on_jobs(self, changes: Sequence[JobEvent]) -> None:
        """Look right, and never run."""


class Wrapper:
    @hookimpl(wrapper=True)
    def dispy_on_jobs(self, changes: Sequence[JobEvent]) -> object:
        return (yield)


class Failing:
    @hookimpl
    def dispy_register_transport(self) -> None:
        raise OSError("no such device")


def attached(content: object) -> Plugged:
    plugin = Plugged("sample", "dispy-sample", "1.2")
    plugin.attach(content)
    return plugin


def test_hooks_are_the_marked_functions() -> None:
    content = Observer()
    plugin = attached(content)
    assert plugin.hooks == ("dispy_on_jobs",)
    assert plugin.content is content


def test_call_passes_arguments_and_gives_answers() -> None:
    content = Observer()
    assert attached(content).call("dispy_on_jobs", changes=["change"]) == []
    assert content.seen == [["change"]]


def test_call_of_a_hook_that_it_does_not_have_gives_nothing() -> None:
    assert attached(Observer()).call("dispy_register_transport") == []


def test_call_raises_what_the_plugin_raises() -> None:
    with pytest.raises(OSError, match="no such device"):
        attached(Failing()).call("dispy_register_transport")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Misspelled(), r"'sample' of dispy-sample 1\.2 does not fit .*dispy_on_job"),
        (WrongParameters(), r"does not fit the hooks of this dispy: .*events"),
        (Async(), r"dispy_on_jobs is an async function; .* whose methods are async"),
        (Wrapper(), r"dispy_on_jobs is a wrapper"),
        (object(), r"has no hooks: mark its functions with dispy\.hookspecs\.hookimpl"),
    ],
    ids=["misspelled", "parameters", "async", "wrapper", "empty"],
)
def test_what_does_not_fit_is_refused(content: object, message: str) -> None:
    plugin = Plugged("sample", "dispy-sample", "1.2")
    with pytest.raises(PluginError, match=f"(?s){message}"):
        plugin.attach(content)
    assert plugin.hooks == ()
    assert plugin.content is None


def test_what_is_set_aside_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    plugin = Plugged("sample", "dispy-sample", "1.2")
    with caplog.at_level(logging.WARNING, "dispy"):
        plugin.set_aside("it is broken")
        plugin.set_aside("it is broken")
        plugin.set_aside("it is slow")
    assert plugin.errors == ["it is broken", "it is slow"]
    assert caplog.messages == [
        "plugin 'sample' of dispy-sample 1.2 is not used: it is broken",
        "plugin 'sample' of dispy-sample 1.2 is not used: it is slow",
    ]


@pytest.mark.parametrize(
    ("dist", "version", "text"),
    [
        ("dispy-sample", "1.2", "plugin 'sample' of dispy-sample 1.2"),
        ("dispy-sample", "", "plugin 'sample' of dispy-sample"),
        ("", "", "plugin 'sample'"),
    ],
)
def test_names_its_origin(dist: str, version: str, text: str) -> None:
    assert str(Plugged("sample", dist, version)) == text


def test_calls_are_traced_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(TRACE_VARIABLE, "1")
    attached(Observer()).call("dispy_on_jobs", changes=["change"])
    with pytest.raises(OSError, match="no such device"):
        attached(Failing()).call("dispy_register_transport")
    lines = capsys.readouterr().err.splitlines()
    start = "hook: plugin 'sample' of dispy-sample 1.2: "
    assert lines == [
        f"{start}dispy_on_jobs(changes=['change'])",
        f"{start}dispy_on_jobs gave []",
        f"{start}dispy_register_transport()",
        f"{start}dispy_register_transport raised OSError('no such device')",
    ]


def test_calls_are_not_traced_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(TRACE_VARIABLE, raising=False)
    attached(Observer()).call("dispy_on_jobs", changes=["change"])
    assert capsys.readouterr().err == ""
