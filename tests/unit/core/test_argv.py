"""A secret on the command line goes off it, and everything else stays."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy import argv
from dispy.argv import FLAGS, MAX_BYTES, SECRET_VARIABLE, take_secret, without_secret
from dispy.errors import UsageError

PATIENCE_S = 60

PROGRAM = """
import json, os, sys
import click
from dispy.argv import take_secret

@click.command()
@click.option("-s", "--secret")
@click.option("-a", multiple=True)
@click.option("-d", is_flag=True)
@click.argument("rest", nargs=-1)
def main(secret, a, d, rest):
    began = os.getpid()
    secret = take_secret(secret)
    def read(name):
        with open(f"/proc/self/{name}", "rb") as file:
            return os.fsdecode(file.read())
    print(json.dumps({
        "secret": secret, "a": a, "d": d, "rest": rest, "orig_argv": sys.orig_argv, "pid": began,
        "cmdline": read("cmdline"), "environ": read("environ"), "variables": dict(os.environ),
        "descriptors": len(os.listdir("/proc/self/fd")), "input": sys.stdin.read(),
        "no_user_site": sys.flags.no_user_site,
    }))

main()
"""


@pytest.fixture(autouse=True)
def _nothing_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)


@pytest.mark.parametrize(
    "spelling",
    ["-s hush", "-shush", "--secret hush", "--secret=hush", "-ds hush", "-dshush", "-dqvs hush", "-vshush"],
)
def test_every_spelling_goes(spelling: str) -> None:
    words = ["run", "-c", "2", *spelling.split(), "-a", "1", "program"]
    flags = [spelling[: spelling.index("s")]] if spelling[1] in FLAGS else []
    assert without_secret(words, "hush") == ["run", "-c", "2", *flags, "-a", "1", "program"]


@pytest.mark.parametrize(
    "words",
    [
        ["-c", "2", "-d", "x"],
        ["--secret-file", "hush"],
        ["--secret-file=hush"],
        ["--secret_file", "hush"],
        ["-a", "-s hush", "program"],
        ["-a", "-s x", "program"],
        ["-a", "--secret", "-a", "--secret=other"],
        ["-a-s", "program"],
        ["-athings"],
        ["-athingshush"],
        ["-n", "hush", "hush"],
        ["-s"],
        ["-ds"],
        ["--secret"],
        ["-s", "other"],
        ["--", "-s", "hush", "--secret=hush", "-shush"],
    ],
)
def test_what_only_looks_like_it_stays(words: list[str]) -> None:
    assert without_secret(words, "hush") == words


def test_secret_goes_before_the_end_of_the_options_and_stays_behind_it() -> None:
    assert without_secret(["-s", "x", "--", "-s", "x"], "x") == ["--", "-s", "x"]


@pytest.mark.parametrize("secret", ["--", "-s", "--secret", "a.c*(", "two words", "line\nline", "ü", "-d"])
def test_secret_may_be_any_text(secret: str) -> None:
    for words in (["-s", secret], ["--secret", secret], [f"--secret={secret}"], [f"-s{secret}"]):
        assert without_secret(["-d", *words, "abc"], secret) == ["-d", "abc"]
    assert without_secret([f"-ds{secret}", "abc"], secret) == ["-d", "abc"]


others = st.sampled_from(
    [
        ("-c", "2"),
        ("-a", "-s x"),
        ("--secret-file", "f"),
        ("-q",),
        ("-dq",),
        ("-athings",),
        ("-axs2",),
        ("p",),
    ]
)
secrets = st.text("XYZs-= *", min_size=1)


@given(st.data(), secrets, st.lists(others | st.none()))
def test_other_options_stay_as_they_are(
    data: st.DataObject, secret: str, items: list[tuple[str, ...] | None]
) -> None:
    spellings = st.sampled_from(
        [("-s", secret), ("--secret", secret), (f"-s{secret}",), (f"--secret={secret}",)]
    )
    words = [word for item in items for word in (data.draw(spellings) if item is None else item)]
    assert without_secret(words, secret) == [word for item in items if item for word in item]


# In this process


def test_without_a_secret_nothing_happens() -> None:
    assert take_secret(None) is None
    assert take_secret("") is None


def test_secret_that_is_not_on_the_command_line_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "execve", None)
    assert take_secret("hush") == "hush"


@pytest.fixture
def run_again(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Give the command lines and environments of processes that would have replaced this one."""
    made: list[Any] = []

    class ReplacedError(BaseException):
        pass

    def execve(path: str, words: list[str], environment: dict[str, str]) -> None:
        made.append((path, words, environment))
        raise ReplacedError

    def give(*words: str, secret: str) -> None:
        monkeypatch.setattr(sys, "argv", ["/bin/dispy", *words])
        monkeypatch.setattr(sys, "orig_argv", ["python3", "-s", "/bin/dispy", *words])
        with pytest.raises(ReplacedError):
            take_secret(secret)

    monkeypatch.setattr(os, "execve", execve)
    made.append(give)
    return made


def test_options_of_the_interpreter_stay(run_again: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    run_again[0]("run", "-s", "/bin/dispy", secret="/bin/dispy")
    path, words, environment = run_again[1]
    assert path == sys.executable
    assert words == ["python3", "-s", "/bin/dispy", "run"]
    assert environment == {**os.environ, SECRET_VARIABLE: environment[SECRET_VARIABLE]}
    reader = int(environment[SECRET_VARIABLE])
    assert os.get_inheritable(reader)
    with open(reader) as file:
        assert file.read() == "/bin/dispy"
    assert "use --secret-file" in capsys.readouterr().err


def test_of_two_secrets_the_last_one_counts(
    run_again: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_again[0]("-s", "first", "-s", "last", secret="last")
    number = run_again[1][2][SECRET_VARIABLE]
    monkeypatch.setenv(SECRET_VARIABLE, number)
    capsys.readouterr()
    run_again[0]("-s", "first", secret="first")
    assert run_again[2][1:] == (
        ["python3", "-s", "/bin/dispy"],
        {**os.environ, SECRET_VARIABLE: number},
    )
    assert capsys.readouterr().err == ""  # it was said
    monkeypatch.setattr(sys, "argv", ["/bin/dispy"])
    pipe = os.fstat(int(number))
    assert take_secret(None) == "last"
    assert SECRET_VARIABLE not in os.environ
    with contextlib.suppress(OSError):  # or another thread has taken the number for something else meanwhile
        assert not os.path.samestat(os.fstat(int(number)), pipe)


def test_secret_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "ü" * (MAX_BYTES // 2 + 1)
    monkeypatch.setattr(sys, "argv", ["dispy", "-s", secret])
    monkeypatch.setattr(argv.os, "execve", None)
    with pytest.raises(UsageError, match="longer than 4096 bytes: put it into a file") as caught:
        take_secret(secret)
    assert "ü" not in str(caught.value)


@pytest.mark.parametrize("value", ["hush", "-1", "99999"])
def test_variable_that_names_no_descriptor_is_refused_unseen(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, value)
    with pytest.raises(UsageError, match=f"{SECRET_VARIABLE} is for a process") as caught:
        take_secret(None)
    assert value not in str(caught.value)
    assert caught.value.__suppress_context__


# As processes


def run(path: Path, *words: str, options: tuple[str, ...] = ()) -> tuple[dict[str, Any], str]:
    path.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, *options, str(path), *words],
        input="the input",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc to see the arguments of a process")
@pytest.mark.parametrize("options", [(), ("-s",), ("-X", "dev")])
@pytest.mark.parametrize(
    "words", [("-s", "hush hush"), ("-dshush hush",), ("-s", "old", "--secret=hush hush"), ("-shush hush",)]
)
def test_new_process_has_the_secret_but_shows_it_nowhere(
    tmp_path: Path, words: tuple[str, ...], options: tuple[str, ...]
) -> None:
    path = tmp_path / "program.py"
    plain, silence = run(path, *(("-d",) if "-d" in words[0] else ()), "-a", "-s x", "p", options=options)
    told, said = run(path, *words, "-a", "-s x", "p", options=options)
    assert told["secret"] == "hush hush"
    assert told["input"] == "the input"
    for shown in ("cmdline", "environ", "variables", "orig_argv"):
        assert "hush" not in str(told[shown])
        assert "old" not in str(told["cmdline"])
    for same in ("a", "d", "rest", "orig_argv", "cmdline", "variables", "descriptors", "no_user_site"):
        assert told[same] == plain[same], same
    assert (plain["secret"], silence) == (None, "")
    assert said.count("can be read by every user") == 1
    assert "hush" not in said


def test_process_stays_the_same(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    command = [sys.executable, str(path), "-s", "hush"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        output, _nothing = process.communicate(timeout=PATIENCE_S)
        assert json.loads(output)["pid"] == process.pid
