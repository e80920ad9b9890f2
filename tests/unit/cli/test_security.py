"""Options that say who may take part, and where they go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner

import dispy
from dispy import argv
from dispy.errors import UsageError
from dispy.hookspecs import hookimpl
from dispy.interfaces import API_VERSION, Credentials, SecurityRequest, StreamSecurity
from dispy.model import AccessRole
from dispy.runtime import probe
from dispy.runtime.probe import Probed
from dispy_cli import surroundings
from dispy_cli.nodes import nodes
from dispy_cli.run import run
from dispy_cli.security import SecurityOptions, security_options, take_security
from dispy_node.command import node

FILES = ("--secret-file", "s", "--certfile", "c", "--keyfile", "k", "--cafile", "a")


@pytest.fixture
def parse() -> Callable[..., SecurityOptions]:
    """Give a function that parses words with a command that has these options and one of its own."""

    def parse(*words: str) -> SecurityOptions:
        found: list[SecurityOptions] = []

        @click.command
        @click.option("-o", "--own")
        @security_options
        def command(**options: Any) -> None:
            found.append(take_security(options))
            assert options == {"own": "x"}

        done = CliRunner().invoke(command, ["-o", "x", *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return found[0]

    return parse


Parse = Callable[..., SecurityOptions]


def test_nothing_said_is_nothing_given(parse: Parse) -> None:
    assert parse() == SecurityOptions()
    assert parse().parameters() == {}


def test_all_can_be_said(parse: Parse) -> None:
    assert parse("-s", "x", *FILES) == SecurityOptions("x", "s", "c", "k", "a")
    assert parse("--secret", "x", "--open") == SecurityOptions("x", open=True)
    assert parse("--secret_file", "s") == SecurityOptions(secret_file="s")


def test_parameters_are_those_of_a_cluster(parse: Parse) -> None:
    assert parse("-s", "x", *FILES[2:]).parameters() == {
        "secret": "x",
        "certfile": "c",
        "keyfile": "k",
        "cafile": "a",
    }
    assert parse("--secret-file", "s").parameters() == {"secret_file": "s"}
    assert parse("--open").parameters() == {"secret": dispy.OPEN}


def test_open_and_a_secret_exclude_each_other(parse: Parse) -> None:
    with pytest.raises(UsageError, match="--open and --secret exclude each other: leave one of them out"):
        parse("--open", "-s", "x").parameters()


def test_secret_is_taken_off_the_command_line_at_once(parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str | None] = []

    def take_secret(secret: str | None) -> str:
        taken.append(secret)
        return "received"

    monkeypatch.setattr(argv, "take_secret", take_secret)
    assert parse("-s", "x").parameters() == {"secret": "received"}
    assert parse().parameters() == {"secret": "received"}  # as in the process that begins anew
    assert taken == ["x", None]


def test_secret_is_in_no_text_of_the_options() -> None:
    assert "hush" not in repr(SecurityOptions("hush"))


@pytest.mark.parametrize("command", [run, nodes, node], ids=lambda command: command.name)
def test_only_letters_without_values_may_stand_before_the_s(command: click.Command) -> None:
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    letters = {
        is_flag: {
            name[1]
            for option in options
            if option.is_flag is is_flag
            for name in option.opts
            if len(name) == 2
        }
        for is_flag in (False, True)
    }
    assert letters[True] <= set(argv.FLAGS)
    assert "s" in letters[False]
    assert letters[False].isdisjoint(argv.FLAGS)


# Commands


def test_run_passes_them_on(
    run_dispy: Callable[..., int], fake_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = fake_cluster()
    monkeypatch.setattr(dispy, "JobCluster", cluster)
    assert run_dispy("run", "-qs", "x", *FILES[2:], "-a", "-s y", "prog") == 0
    assert {name: cluster.made_with.get(name) for name in ("secret", "secret_file", "certfile")} == {
        "secret": "x",
        "secret_file": None,
        "certfile": "c",
    }
    assert (cluster.made_with["keyfile"], cluster.made_with["cafile"]) == ("k", "a")
    assert cluster.jobs[0].args == ("-s", "y")
    assert run_dispy("run", "--open", "-a", "", "prog") == 0
    assert cluster.made_with["secret"] is dispy.OPEN
    assert "certfile" not in cluster.made_with
    assert run_dispy("run", "--open", "-s", "x", "-a", "", "prog") == 2


def test_run_takes_the_secret_before_anything_else(
    run_dispy: Callable[..., int], fake_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = fake_cluster()
    monkeypatch.setattr(dispy, "JobCluster", cluster)
    monkeypatch.setattr(sys, "argv", ["dispy", "run", "-s", "x", "-a", "", "prog"])
    began: list[Sequence[str]] = []

    class ReplacedError(BaseException):
        pass

    def run_again(words: Sequence[str], secret: str) -> None:
        began.append(words)
        raise ReplacedError

    monkeypatch.setattr(argv, "_run_again", run_again)
    with pytest.raises(ReplacedError):
        run_dispy(*sys.argv[1:])
    assert began == [["run", "-a", "", "prog"]]
    assert cluster.made_with == {}


class FakeSecurity:
    """A plugin with sources of credentials that keep what they are asked for."""

    def __init__(self) -> None:
        asked: list[tuple[str, SecurityRequest]] = []
        self.asked = asked

        class Secret(Credentials):
            NAME = "secret"
            API_VERSION = API_VERSION

            def load(self, request: SecurityRequest) -> Sequence[Any]:
                asked.append((self.NAME, request))
                return [SimpleNamespace(name=self.NAME, renew_at=float("inf"))]

        class Certificate(Secret):
            NAME = "certificate"

        class Security(StreamSecurity):
            NAME = "ssl"
            API_VERSION = API_VERSION

            async def connect(self, stream: Any, credential: Any) -> Any:
                raise NotImplementedError

            async def accept(self, stream: Any, credentials: Any) -> Any:
                raise NotImplementedError

        self.sources = [Secret, Certificate]
        self.security = Security

    @hookimpl
    def dispy_register_credentials(self) -> Any:
        return self.sources

    @hookimpl
    def dispy_register_security(self) -> Any:
        return self.security


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Give a function that runs ``dispy nodes``: status, requests for credentials, targets."""

    def ask(*words: str, plugins: Sequence[object] | None = None) -> tuple[int, list[Any], list[Any]]:
        targets: list[Any] = []

        def probe_nodes(asked: Sequence[Any], transport: object) -> list[Any]:
            targets.extend(asked)
            return [Probed(target, None, "", "no answer") for target in asked]

        security = FakeSecurity()
        manager = dispy_plugins([security] if plugins is None else plugins)
        monkeypatch.setattr(probe, "probe_nodes", probe_nodes)
        nobody = surroundings.Surroundings()
        monkeypatch.setattr(surroundings, "look_around", lambda trust, discoveries: nobody)
        monkeypatch.setattr("dispy.plugins.PluginManager.load", lambda: manager)
        done = CliRunner().invoke(nodes, words, standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        return done.return_value, security.asked, targets

    return ask


def dispy_plugins(plugins: Sequence[object]) -> Any:
    from dispy.plugins import PluginManager

    return PluginManager.load(plugins, entry_points=[])


def test_nodes_asks_as_somebody_who_looks(asked: Callable[..., Any]) -> None:
    _status, requests, targets = asked("-s", "x", "--certfile", "/c", "-n", "one.example", "-n", "local")
    request = SecurityRequest(AccessRole.OBSERVE, "x", certfile="/c")
    assert requests == [("certificate", request), ("secret", request)]
    one, local = targets
    assert not one.trust.is_open
    assert local.trust is None


def test_nodes_can_be_open(asked: Callable[..., Any]) -> None:
    _status, requests, (target,) = asked("--open")
    assert requests == []
    assert target.trust.is_open


def test_nodes_tells_what_is_missing_before_it_asks(asked: Callable[..., Any]) -> None:
    with pytest.raises(dispy.errors.PluginNotInstalled, match="dispy-core"):
        asked(plugins=[])
