"""``dispy key``."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from dispy.errors import CredentialsError
from dispy_auth_secret.command import KeyCommand
from dispy_auth_secret.keyfile import load_keys, prefer_key, read_keys
from dispy_auth_secret.keys import Key
from dispy_testing.contracts import check_command

FIRST, SECOND, THIRD = (Key(bytes([number] * 32)) for number in range(3))


class Done(NamedTuple):
    """What has become of a command; not that of click, whose older releases mix the two outputs."""

    exit_code: object
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


Call = Callable[..., Done]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Give a function that runs `dispy key` with arguments and standard input."""

    def run(*words: str, given: str | None = "") -> Done:
        if given is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        with pytest.raises(SystemExit) as ended:
            KeyCommand().build().main(words, prog_name="dispy key")
        return Done(ended.value.code, *capsys.readouterr())

    return run


def test_contract() -> None:
    check_command(KeyCommand)


def test_show_prints_the_preferred_key_alone_on_standard_output(call: Call) -> None:
    prefer_key(FIRST)
    prefer_key(SECOND)
    done = call("show")
    assert (done.exit_code, done.stdout) == (0, f"{SECOND.text}\n")
    assert "whoever has this key can run programs here" in done.stderr
    assert "dispy key add" in done.stderr


def test_show_makes_the_key_on_first_use(call: Call) -> None:
    assert call("show").stdout == f"{load_keys()[0].text}\n"


def test_what_show_prints_is_what_add_takes(call: Call) -> None:
    shown = call("show").stdout
    (own,) = load_keys()
    prefer_key(FIRST)
    done = call("add", given=shown)
    assert done.stdout.startswith(f"key {own.fingerprint} is preferred now")
    assert load_keys() == [own, FIRST]


def test_add_prefers_the_key_and_keeps_the_others(call: Call) -> None:
    prefer_key(FIRST)
    done = call("add", given=f"\n{SECOND.text.upper()}\n")
    assert done.exit_code == 0
    assert load_keys() == [SECOND, FIRST]
    assert SECOND.text[7:] not in done.output.lower()


def test_add_on_a_new_machine_makes_no_other_key(call: Call) -> None:
    call("add", given=SECOND.text)
    assert load_keys() == [SECOND]


def test_add_takes_several_keys_in_their_order(call: Call) -> None:
    prefer_key(FIRST)
    call("add", given=f"# others\n{SECOND.text}\n{THIRD.text}\n")
    assert load_keys() == [SECOND, THIRD, FIRST]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (SECOND.text[:-1], "line 1 of what was given: the key was not copied exactly"),
        ("super", "line 1 of what was given: this is no key, .*dispy key show"),
        ("", "what was given holds no key"),
    ],
)
def test_add_refuses_what_is_no_key_and_changes_nothing(
    call: Call, config: Path, given: str, told: str
) -> None:
    with pytest.raises(CredentialsError, match=told):
        call("add", given=given)
    assert not config.exists()


def test_add_refuses_a_key_on_the_command_line_and_does_not_repeat_it(call: Call) -> None:
    done = call("add", SECOND.text)
    assert done.exit_code == 2
    assert "can be seen by everybody on this machine; run `dispy key add` alone" in done.output
    assert SECOND.text[7:] not in done.output
    assert read_keys() == []


def test_add_asks_without_echo_at_a_terminal(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def ask(text: str, **options: Any) -> str:
        asked.append(options)
        return SECOND.text

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(click, "prompt", ask)
    monkeypatch.setattr(sys, "stdin", Terminal())
    call("add", given=None)
    assert asked == [{"hide_input": True, "err": True}]
    assert load_keys() == [SECOND]


def test_key_is_changed_in_three_steps(call: Call) -> None:
    prefer_key(FIRST)
    done = call("new")
    new, old = load_keys()
    assert old == FIRST
    assert done.stdout.startswith(f"key {new.fingerprint} is preferred now; ")
    assert "dispy key drop" in done.stderr
    assert call("show").stdout == f"{new.text}\n"
    done = call("drop", old.fingerprint)
    assert done.stdout.startswith(f"key {new.fingerprint} is preferred now; ")
    assert load_keys() == [new]


def test_list_tells_fingerprints_and_where_they_are(call: Call, config: Path) -> None:
    prefer_key(FIRST)
    prefer_key(SECOND)
    done = call("list")
    assert done.stdout.splitlines() == [
        f"{SECOND.fingerprint}  preferred  {config}/key",
        f"{FIRST.fingerprint}  accepted   {config}/key",
    ]
    assert done.stderr == ""


def test_list_makes_no_key(call: Call, config: Path) -> None:
    done = call("list")
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"there is no key in '{config}/key' yet" in done.stderr
    assert not config.exists()


def test_drop_needs_a_fingerprint_that_is_there(call: Call) -> None:
    prefer_key(FIRST)
    assert call("drop").exit_code == 2
    with pytest.raises(CredentialsError, match=f"use one of these: {FIRST.fingerprint}"):
        call("drop", SECOND.fingerprint)


@pytest.mark.parametrize("words", [("new",), ("list",), ("drop", FIRST.fingerprint), ("add",)])
def test_only_show_prints_keys(call: Call, words: tuple[str, ...]) -> None:
    for one in (FIRST, SECOND):
        prefer_key(one)
    done = call(*words, given=THIRD.text)
    assert done.output
    for one in {FIRST, SECOND, THIRD, *load_keys()}:
        assert one.text[7:] not in done.output.lower()


def test_help_does_not_need_what_is_slow_to_import() -> None:
    code = (
        "import sys; from dispy_auth_secret.plugin import dispy_register_command as hook; hook()().build()\n"
    )
    code += "sys.exit(any(name.split('.')[0] == 'cryptography' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0
