from __future__ import annotations

import click
import pytest

from dispy.interfaces import API_VERSION, Command
from dispy_testing.contracts import ContractViolation, check_command


class Hello(Command):
    NAME = "hello"
    API_VERSION = API_VERSION
    HELP = "Say hello."

    def build(self) -> click.Command:
        return click.Command(self.NAME, callback=lambda: None)


class NoHelp(Hello):
    HELP = ""


class LongHelp(Hello):
    HELP = "Say hello to everybody.\nAnd again."


class NotBuilt(Hello):
    def build(self) -> click.Command:
        return print  # type: ignore[return-value]


class OtherName(Hello):
    def build(self) -> click.Command:
        return click.Command("bye")


class NoHelpOption(Hello):
    def build(self) -> click.Command:
        return click.Command(self.NAME, add_help_option=False)


class TakesAnything(Hello):
    def build(self) -> click.Command:
        settings = {"ignore_unknown_options": True, "allow_extra_args": True}
        return click.Command(self.NAME, context_settings=settings, callback=lambda: None)


def test_a_command_that_keeps_the_contract() -> None:
    check_command(Hello)


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        (NoHelp, "HELP must be one line of 1 to 79 characters, not ''"),
        (LongHelp, "HELP must be one line"),
        (NotBuilt, "build must return a click command"),
        (OtherName, "the click command must be named 'hello', not 'bye'"),
        (NoHelpOption, "--help must print the usage"),
        (TakesAnything, "an unknown option must exit with 2"),
    ],
)
def test_violations_are_named(command: type[Command], rule: str) -> None:
    with pytest.raises(ContractViolation, match=rule):
        check_command(command)
