"""What every sub-command of ``dispy`` must do. Needs click, which whoever has a command has too."""

from __future__ import annotations

from collections.abc import Callable

from dispy.interfaces import Command
from dispy_testing.contracts.rules import ContractViolation, check_identity, is_text, require

HELP_WIDTH = 79
"""``HELP`` is one line of the list that ``dispy --help`` prints, next to the command's name."""


def check_command(make_command: Callable[[], Command]) -> None:
    """Check a sub-command: its description, and that click can build it and print its help.

    Args:
        make_command: the class, or a function that gives a new command.

    Raises:
        ContractViolation: it breaks a rule.
    """
    import click
    from click.testing import CliRunner

    command = make_command()
    check_identity(type(command), Command)
    text = command.HELP
    require(
        is_text(text) and 0 < len(text) <= HELP_WIDTH and "\n" not in text,
        f"HELP must be one line of 1 to {HELP_WIDTH} characters, not {text!r}",
    )
    built = command.build()
    if not isinstance(built, click.Command):
        raise ContractViolation(f"build must return a click command, not {built!r}")
    require(
        built.name == command.NAME, f"the click command must be named {command.NAME!r}, not {built.name!r}"
    )
    answer = CliRunner().invoke(built, ["--help"])
    require(
        answer.exit_code == 0 and "Usage:" in answer.output,
        f"--help must print the usage and exit with 0, not {answer.exit_code}: {answer.output!r}",
    )
    answer = CliRunner().invoke(built, ["--no-such-option"])
    require(answer.exit_code == 2, f"an unknown option must exit with 2 (usage), not {answer.exit_code}")
