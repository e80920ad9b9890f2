"""``dispy plugins``."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from dispy.plugins import PluginInfo, PluginManager
from dispy_cli import plugins

GOOD = PluginInfo("tcp", "5.0", "dispy-transport-tcp", ("dispy_register_transport",), "")
BAD = PluginInfo("bad", "", "", (), "it could not be loaded: \x1bOops")


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give a function that decides what is installed."""

    def install(*found: PluginInfo) -> None:
        class Manager:
            def describe(self) -> list[PluginInfo]:
                return list(found)

        monkeypatch.setattr(plugins, "PluginManager", type("", (), {"load": Manager}))

    return install


def test_plugins_are_listed(
    run_dispy: Callable[..., int], install: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    install(GOOD)
    assert run_dispy("plugins") == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[1].split() == [
        "tcp",
        "5.0",
        "dispy-transport-tcp",
        "dispy_register_transport",
    ]
    assert told.err == ""


def test_what_is_wrong_is_told_and_is_the_exit_status(
    run_dispy: Callable[..., int], install: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    install(GOOD, BAD)
    assert run_dispy("plugins") == 1
    told = capsys.readouterr()
    assert told.out.splitlines()[2].split() == ["bad", "-", "-", "-"]
    assert told.err == "dispy: plugin 'bad' is not used: it could not be loaded: ?Oops\n"


def test_json_has_it_all(
    run_dispy: Callable[..., int], install: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    install(GOOD, BAD)
    assert run_dispy("plugins", "--json") == 1
    good, bad = json.loads(capsys.readouterr().out)
    assert good == {
        "name": "tcp",
        "version": "5.0",
        "dist": "dispy-transport-tcp",
        "hooks": ["dispy_register_transport"],
        "error": "",
    }
    assert bad["error"] == BAD.error


def test_built_in_plugins_are_among_them(
    run_dispy: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manager = PluginManager.load(entry_points=[])
    monkeypatch.setattr(plugins, "PluginManager", type("", (), {"load": lambda: manager}))
    assert run_dispy("plugins") == 0
    assert "dispy_register_fault_policy" in capsys.readouterr().out
