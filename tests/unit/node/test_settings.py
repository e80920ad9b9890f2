"""Settings of a node."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.errors import UsageError
from dispy.interfaces import Address
from dispy_node.settings import NodeSettings, read_settings, write_settings


def test_defaults_listen_everywhere_at_the_port_above() -> None:
    settings = NodeSettings()
    assert settings.listen_addresses() == [Address("tcp", "0.0.0.0", 51348), Address("tcp", "::", 51348)]
    assert settings.port == 51348


def test_port_zero_means_any() -> None:
    assert NodeSettings(dispy_port=0).port == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "0.0.0.0", "8.8.8.8", "node1.example"])
@pytest.mark.parametrize("is_open", [False, True])
def test_node_listens_where_it_is_told(host: str, is_open: bool) -> None:
    """Which addresses may not be open is said where nodes are served."""
    settings = NodeSettings(host=(host,), open=is_open)
    assert settings.listen_addresses() == [Address("tcp", host, 51348)]


def test_other_transports_listen_on_paths() -> None:
    assert NodeSettings(host=("unix:/run/node",)).listen_addresses() == [Address("unix", "/run/node")]


def test_files_with_keys_are_told() -> None:
    assert NodeSettings().secret_paths() == []
    settings = NodeSettings(certfile="/c.pem", secret_file="key", cafile="/ca.pem")
    assert settings.secret_paths() == [Path.cwd() / "key", Path("/c.pem")]


def test_files_with_keys_may_be_named_below_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    settings = NodeSettings(secret_file="~/key", keyfile="~/k.pem")
    assert settings.secret_paths() == [Path("/home/me/key"), Path("/home/me/k.pem")]


def test_folder_is_one_for_each_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert NodeSettings().folder() == tmp_path / "dispy" / "node-51347"
    assert NodeSettings(dispy_port=6).folder() != NodeSettings(dispy_port=7).folder()
    assert NodeSettings(dest_path_prefix="/somewhere").folder() == Path("/somewhere/dispy/node")


def test_folder_is_in_the_home_folder_if_the_desktop_does_not_say_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        assert NodeSettings().folder() == tmp_path / ".local" / "state" / "dispy" / "node-51347"


@pytest.mark.parametrize("home", ["relative", "/nonexistent/home"])
def test_without_a_home_folder_there_is_none(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    assert NodeSettings().folder() is None
    assert NodeSettings(dest_path_prefix="/somewhere").folder() == Path("/somewhere/dispy/node")


settings_values = st.builds(
    NodeSettings,
    cpus=st.integers(-100, 100),
    host=st.lists(st.text(max_size=20)).map(tuple),
    dispy_port=st.integers(0, 65534),
    name=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    secret_file=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    confine=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20)).map(tuple),
    open=st.booleans(),
)


@given(
    settings_values.filter(lambda one: all(not any("\ud800" <= c <= "\udfff" for c in h) for h in one.host))
)
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, settings: NodeSettings
) -> None:
    path = tmp_path_factory.mktemp("settings") / "node.toml"
    write_settings(path, settings)
    assert dataclasses.replace(NodeSettings(), **read_settings(path)) == settings  # type: ignore[arg-type]


def test_dashes_and_single_strings_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('dispy-port = 7000\nhost = "127.0.0.1"\n')
    assert read_settings(path) == {"dispy_port": 7000, "host": ("127.0.0.1",)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cpus = ", "not valid TOML"),
        ("colour = 1", "'colour'"),
        ('cpus = "two"', "type int"),
        ("open = 1", "type bool"),
        ('secret = "hush"', "'secret', which does not exist; known: .*secret_file"),
    ],
)
def test_wrong_files_are_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_settings(path)


def test_missing_file_and_unwritable_place(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_settings(tmp_path / "missing.toml")
    with pytest.raises(UsageError, match="cannot write"):
        write_settings(tmp_path / "no" / "folder.toml", NodeSettings())


def test_largest_file() -> None:
    assert NodeSettings().max_file_bytes() == 0
    assert NodeSettings(max_file_size="1m").max_file_bytes() == 1024**2
    with pytest.raises(UsageError, match="--max-file-size must be a number of bytes"):
        NodeSettings(max_file_size="much").max_file_bytes()
