"""The umbrella: which command is meant, and how the program ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import click
import pytest

from dispy import __version__
from dispy.errors import DispyError, NoNodesError, UsageError
from dispy.hookspecs import hookimpl
from dispy.interfaces import API_VERSION, Command
from dispy_cli import umbrella as umbrella_module
from dispy_cli.exits import Stopped, Told
from dispy_cli.main import main


class Extra:
    """A plugin with a command that does what the test says, and one whose code is never to be imported."""

    def __init__(self, action: Callable[[], Any] = lambda: None) -> None:
        self.action = action

    @hookimpl
    def dispy_register_command(self) -> list[type[Command]]:
        action = self.action

        class ActCommand(Command):
            NAME: ClassVar[str] = "act"
            API_VERSION: ClassVar[int] = API_VERSION
            HELP: ClassVar[str] = "Do what the test says."

            def build(self) -> click.Command:
                return click.Command("act", callback=action)

        class HeavyCommand(Command):
            NAME: ClassVar[str] = "heavy"
            API_VERSION: ClassVar[int] = API_VERSION
            HELP: ClassVar[str] = "Not to be built."

            def build(self) -> click.Command:
                raise AssertionError("this command was not asked for")

        return [ActCommand, HeavyCommand]


class RunRecorder:
    """Takes the place of ``run``: a click command that keeps what it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: list[dict[str, Any]] = []
        import dispy_cli.run

        def keep(options: Any) -> int:
            self.given.append({"program": options.program, "args": options.args, "file": options.file})
            return 0

        monkeypatch.setattr(dispy_cli.run, "run_program", keep)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> RunRecorder:
    """Give what ``run`` is called with."""
    return RunRecorder(monkeypatch)


def test_help_lists_commands_without_building_any(
    run_dispy: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_dispy("--help", plugins=[Extra()]) == 0
    told = capsys.readouterr().out
    for name, help_text in [
        ("act", "Do what the test says."),
        ("heavy", "Not to be built."),
        ("run", "Run a"),
    ]:
        assert f"\n  {name} " in told
        assert help_text in told


def test_version(run_dispy: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_dispy("--version") == 0
    assert capsys.readouterr().out == f"dispy {__version__}\n"


def test_unknown_command_is_a_usage_error_with_a_hint(
    run_dispy: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_dispy("nods") == 2
    assert "no such command: 'nods'; did you mean 'nodes'?" in capsys.readouterr().err


def test_unknown_command_without_likeness_lists_what_there_is(
    run_dispy: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_dispy("xyzzy") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert (
        "no installed plugin offers the command 'xyzzy' (there: completion, doctor, nodes, plugins, run)"
        in told
    )


def test_command_that_is_not_installed_is_told_with_its_pip_line(
    run_dispy: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    # "nodes" is spelt like it, and must not be what is offered to somebody who wants a node.
    assert run_dispy("node") == 2
    assert "pip install 'dispy-core[node]'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("program", ["dispy", "dispy.py", "dispy_cmd.py"])
def test_without_a_command_it_is_run(
    run_dispy: Callable[..., int], recorder: RunRecorder, tmp_path: Any, program: str
) -> None:
    """The founding document's first example."""
    files = [tmp_path / "file1", tmp_path / "file2"]
    for file in files:
        file.touch()
    options = ["-f", str(files[0]), "-f", str(files[1])]
    options += ["-a", "arg11 arg12", "-a", "arg21 arg22", "-a", "arg3", "/some/program"]
    assert run_dispy(*options, program=program) == 0
    expected = {
        "program": "/some/program",
        "args": ("arg11 arg12", "arg21 arg22", "arg3"),
        "file": tuple(map(str, files)),
    }
    assert recorder.given == [expected]
    assert run_dispy("run", *options) == 0
    assert recorder.given == [expected] * 2


@pytest.mark.parametrize(
    "arguments", [["./prog", "-a", "x"], ["./prog", "-ax"], ["./prog", "--args", "x"], ["--args=x", "./prog"]]
)
def test_program_may_stand_first(
    run_dispy: Callable[..., int], recorder: RunRecorder, arguments: list[str]
) -> None:
    assert run_dispy(*arguments) == 0
    assert recorder.given == [{"program": "./prog", "args": ("x",), "file": ()}]


def test_command_of_that_name_wins_over_a_program(
    run_dispy: Callable[..., int], capsys: pytest.CaptureFixture[str], recorder: RunRecorder
) -> None:
    assert run_dispy("nodes", "-a", "x") == 2
    assert "-a" in capsys.readouterr().err
    assert recorder.given == []


def test_help_of_run_is_shown_with_its_name(
    run_dispy: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_dispy("run", "--help") == 0
    assert capsys.readouterr().out.startswith("Usage: dispy run ")


@pytest.mark.parametrize(
    ("outcome", "status", "message"),
    [
        (None, 0, ""),
        (1, 1, ""),
        (3, 3, ""),
        (UsageError("wrong"), 2, "dispy: wrong\n"),
        (NoNodesError("nobody"), 3, "dispy: nobody\n"),
        (DispyError("broken"), 1, "dispy: broken\n"),
        (
            OSError(28, "No space left on device"),
            1,
            "dispy: cannot write to standard output: No space left on device\n",
        ),
        (click.ClickException("bad"), 1, "Error: bad\n"),
        (KeyboardInterrupt(), 130, "\ndispy: interrupted\n"),
        (Told(143), 143, "\n"),
        (Stopped(15), 143, "\ndispy: interrupted\n"),
    ],
)
def test_exit_status_tells_how_it_ended(
    run_dispy: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    outcome: Any,
    status: int,
    message: str,
) -> None:
    def act() -> Any:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    assert run_dispy("act", plugins=[Extra(act)]) == status
    assert capsys.readouterr().err == message


def test_main_runs_the_umbrella_under_the_name_of_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = SimpleNamespace(program="")

    def run_umbrella(_umbrella: object, arguments: object, program: str) -> int:
        assert arguments is None
        seen.program = program
        return 7

    monkeypatch.setattr(umbrella_module, "run_umbrella", run_umbrella)
    monkeypatch.setattr(sys, "argv", ["/some/bin/dispy_cmd.py", "--help"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 7
    assert seen.program == "dispy_cmd.py"
