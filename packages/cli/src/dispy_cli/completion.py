"""``dispy completion``: prints what a shell must be told once, so that it completes options and commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from dispy_cli.umbrella import completion_variable

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that makes SHELL complete commands, options and file names of this program.

    \b
    bash:  dispy completion bash > ~/.local/share/bash-completion/completions/dispy
    zsh:   dispy completion zsh > "${fpath[1]}/_dispy"
    fish:  dispy completion fish > ~/.config/fish/completions/dispy.fish
    """
    root = context.find_root()
    program = root.info_name or "dispy"
    kind = get_completion_class(shell)
    assert kind is not None  # click has all of SHELLS
    click.echo(kind(root.command, {}, program, completion_variable(program)).source().rstrip())
