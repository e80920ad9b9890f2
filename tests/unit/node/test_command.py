"""``dispy node``: options, and how what goes wrong is shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result

from dispy import __version__, argv
from dispy.errors import TransportError, UsageError
from dispy_node import command, logs, secrecy, service
from dispy_node.command import NodeCommand, main, node
from dispy_node.settings import NodeSettings


class Service:
    """Stands for the node: keeps the settings, and fails as the test says."""

    def __init__(self) -> None:
        self.settings: list[NodeSettings] = []
        self.secrets: list[str | None] = []
        self.closed: list[int] = []
        """How often it had been served when memory was closed."""
        self.error: Exception | None = None
        self.in_nursery = False

    async def serve(self, settings: NodeSettings, secret: str | None, *, clean: bool) -> None:
        self.settings.append(settings)
        self.clean = clean
        self.secrets.append(secret)
        await trio.lowlevel.checkpoint()
        if self.error is not None and self.in_nursery:
            async with trio.open_nursery():
                raise self.error
        if self.error is not None:
            raise self.error


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Service:
    made = Service()
    monkeypatch.setattr(service, "serve", made.serve)
    monkeypatch.setattr(logs, "set_up_logging", lambda **options: None)
    monkeypatch.setattr(secrecy, "close_memory", lambda: made.closed.append(len(made.settings)))
    monkeypatch.delenv("DISPY_SECRET", raising=False)
    return made


@pytest.fixture
def call(fake: Service) -> Callable[..., Result]:
    return lambda *words: CliRunner().invoke(node, words)


Call = Callable[..., Result]


def test_defaults(call: Call, fake: Service) -> None:
    assert call().exit_code == 0
    assert fake.settings == [NodeSettings()]
    assert fake.secrets == [None]


def test_memory_is_closed_before_the_node_runs(call: Call, fake: Service) -> None:
    assert call().exit_code == 0
    assert (fake.closed, len(fake.settings)) == ([0], 1)


@pytest.mark.parametrize(
    ("words", "secret"),
    [
        ("", "of the variable"),
        ("-s given", "given"),
        ("--secret-file f", None),
        ("--certfile c", None),
        ("--certfile c -s given", "given"),
        ("--open", None),
    ],
)
def test_secret_of_the_variable_counts_last_and_does_not_stay_there(
    call: Call, fake: Service, monkeypatch: pytest.MonkeyPatch, words: str, secret: str | None
) -> None:
    monkeypatch.setenv("DISPY_SECRET", "of the variable")
    assert call(*words.split()).exit_code == 0
    assert fake.secrets == [secret]
    assert "DISPY_SECRET" not in os.environ


def test_options_in_both_spellings(call: Call, fake: Service) -> None:
    old = "-c 2 -i 127.0.0.1 -i ::1 --ext_host a -p 9700 --dest_path_prefix /x --open"
    new = "--cpus=2 --host=127.0.0.1 --host=::1 --ext-host=a --dispy-port=9700 --dest-path-prefix=/x --open --daemon"
    for words in (old, new):
        assert call(*words.split()).exit_code == 0
    assert fake.settings[0] == fake.settings[1]
    assert fake.settings[0] == NodeSettings(
        cpus=2, host=("127.0.0.1", "::1"), ext_host=("a",), dispy_port=9700, dest_path_prefix="/x", open=True
    )


def test_options_of_discovery_in_both_spellings(call: Call, fake: Service) -> None:
    old = "--no_discovery --ping_interval 30 --ipv4_udp_multicast --scheduler_host a --scheduler_host b"
    for words in (old, old.replace("_", "-")):
        assert call(*words.split()).exit_code == 0
    assert fake.settings[0] == fake.settings[1]
    assert fake.settings[0] == NodeSettings(
        no_discovery=True, ping_interval=30, ipv4_udp_multicast=True, scheduler_host=("a", "b")
    )
    assert call("--ping-interval", "0").exit_code == 0
    assert call("--ping-interval", "9").exit_code == 2


def test_keys_and_certificates_can_be_named_in_both_spellings(call: Call, fake: Service) -> None:
    for secret_file in ("--secret-file", "--secret_file"):
        done = call(secret_file, "s", "--certfile", "c", "--keyfile", "k", "--cafile", "a")
        assert done.exit_code == 0
    settings = NodeSettings(secret_file="s", certfile="c", keyfile="k", cafile="a")
    assert fake.settings == [settings, settings]
    assert fake.secrets == [None, None]


def test_confinements_are_named_one_by_one(call: Call, fake: Service) -> None:
    assert call("--confine", "user=jobs", "--confine", "bubblewrap:net=no").exit_code == 0
    assert fake.settings == [NodeSettings(confine=("user=jobs", "bubblewrap:net=no"))]


def test_variables_are_let_through_one_by_one(call: Call, fake: Service) -> None:
    assert call("--confine", "bubblewrap", "--env", "ONE", "--env", "OTHER").exit_code == 0
    assert fake.settings == [NodeSettings(confine=("bubblewrap",), env=("ONE", "OTHER"))]


@pytest.mark.parametrize("words", ["-s hush", "-shush", "--secret hush", "--secret=hush", "-ds hush"])
def test_secret_is_given_apart_from_the_settings(call: Call, fake: Service, words: str) -> None:
    assert call(*words.split()).exit_code == 0
    assert fake.secrets == ["hush"]
    assert "hush" not in repr(fake.settings)


def test_secret_is_taken_off_the_command_line_before_the_node_runs(
    call: Call, fake: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str | None] = []

    def take_secret(secret: str | None) -> str:
        taken.append(secret)
        assert fake.settings == []
        return "received"

    monkeypatch.setattr(argv, "take_secret", take_secret)
    assert call("-s", "hush").exit_code == 0
    assert (taken, fake.secrets) == (["hush"], ["received"])


def test_secret_is_not_saved_with_the_settings(call: Call, fake: Service, tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    assert call("-s", "hush", "--secret-file", "s", "--save-config", str(path)).exit_code == 0
    assert "hush" not in path.read_text()
    assert 'secret-file = "s"' in path.read_text()


def test_options_win_over_the_file_which_may_come_from_save_config(
    call: Call, fake: Service, tmp_path: Path
) -> None:
    path = tmp_path / "node.toml"
    assert call("--save_config", str(path), "--cpus", "3", "--name", "saved").exit_code == 0
    assert fake.settings == []  # it has only saved
    assert call("--config", str(path), "--name", "given").exit_code == 0
    assert fake.settings == [NodeSettings(cpus=3, name="given")]


@pytest.mark.parametrize("in_nursery", [False, True])
@pytest.mark.parametrize(
    "error", [UsageError("the settings do not fit"), TransportError("the port is in use")]
)
def test_what_is_wrong_is_one_line(call: Call, fake: Service, error: Exception, in_nursery: bool) -> None:
    fake.error, fake.in_nursery = error, in_nursery
    done = call()
    assert done.exit_code == (2 if isinstance(error, UsageError) else 1)
    assert done.output.splitlines()[-1] == f"Error: {error}"
    assert "Traceback" not in done.output


def test_bug_is_a_traceback(call: Call, fake: Service) -> None:
    fake.error = RuntimeError("a bug")
    assert isinstance(call().exception, RuntimeError)


def test_file_that_cannot_be_read_is_told(call: Call, fake: Service, tmp_path: Path) -> None:
    done = call("--config", str(tmp_path / "missing.toml"))
    assert (done.exit_code, fake.settings) == (2, [])
    assert "missing.toml" in done.output


def test_port_that_cannot_be_is_refused(call: Call, fake: Service) -> None:
    assert call("-p", "65535").exit_code == 2
    assert fake.settings == []


def test_help_names_every_option_and_needs_no_trio(call: Call) -> None:
    text = call("--help").output
    for field in (
        "cpus",
        "host",
        "ext_host",
        "dispy_port",
        "name",
        "dest_path_prefix",
        "secret",
        "secret_file",
        "certfile",
        "keyfile",
        "cafile",
        "confine",
        "env",
        "open",
        "no_discovery",
        "ping_interval",
        "ipv4_udp_multicast",
        "scheduler_host",
        "debug",
        "log_format",
    ):
        assert f"--{field}" in text


def test_version_is_told(call: Call, fake: Service) -> None:
    done = call("--version")
    assert (done.exit_code, fake.settings) == (0, [])
    assert done.output.endswith(f" {__version__}\n")


def test_plugin_gives_the_command() -> None:
    assert NodeCommand().build() is node
    assert NodeCommand.NAME == "node"


def test_program_is_called_as_it_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[Any] = []
    monkeypatch.setattr(command, "node", lambda **options: names.append(options))
    monkeypatch.setattr(sys, "argv", ["/usr/bin/dispynode.py"])
    main()
    assert names == [{"prog_name": "dispynode.py"}]
