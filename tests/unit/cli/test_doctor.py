"""``dispy doctor``: its checks together, and how it tells of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dispy import config
from dispy_cli import doctor, surroundings
from dispy_cli.checks.finding import Finding, Level

FINDINGS = [
    Finding("key", Level.OK, "key 1234"),
    Finding("port", Level.WARN, "it is\x1b in use", "end who has it"),
    Finding("conflicts", Level.FAIL, "two of them", "do this:\n    pip uninstall dispy"),
]


@pytest.fixture(autouse=True)
def _same_ports() -> Iterator[None]:
    before = config.DispyPort
    yield
    config.DispyPort = before


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    made = list(FINDINGS)
    monkeypatch.setattr(doctor, "examine", lambda *given: iter(made))
    return made


def test_findings_are_listed(
    run_dispy: Callable[..., int], found: list[Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_dispy("doctor") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok    key: key 1234"
    assert "\x1b" not in lines[1]
    assert lines[2] == "      -> end who has it"
    assert lines[4:6] == ["      -> do this:", "      -> pip uninstall dispy"]
    assert lines[-1] == "1 ok, 1 warn, 1 fail"


def test_warnings_are_no_failure(run_dispy: Callable[..., int], found: list[Finding]) -> None:
    found.pop()
    assert run_dispy("doctor") == 0


def test_json(
    run_dispy: Callable[..., int], found: list[Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_dispy("doctor", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told[0] == {"check": "key", "level": "ok", "text": "key 1234", "remedy": None}
    assert [one["level"] for one in told] == ["ok", "warn", "fail"]


def test_wrong_usage(run_dispy: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_dispy("doctor", "-n", "10.0.*") == 2
    assert "is a pattern" in capsys.readouterr().err


def test_all_checks_are_made_and_nothing_is_left(
    run_dispy: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without any plugin for connections: that is told, too."""
    monkeypatch.setenv("DISPY_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    around = surroundings.Surroundings()
    around.looking(["eth0 (10.0.0.1)"], is_local=False)
    monkeypatch.setattr(surroundings, "look_around", lambda trust, discoveries: around)
    run_dispy("doctor", "--open", "--json", "-p", "3999")
    told: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    checks = {one["check"] for one in told}
    assert checks >= {
        "versions",
        "conflicts",
        "plugins",
        "key",
        "folder of keys",
        "addresses",
        "port",
        "firewall",
    }
    assert checks >= {"search", "search port", "bubblewrap", "cgroup"}
    assert list(tmp_path.iterdir()) == []


def test_every_distribution_is_known() -> None:
    packages = Path(__file__).parents[3] / "packages"
    assert set(doctor.OWN) == {path.parent.name for path in packages.glob("*/pyproject.toml")}


def test_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "127.0.0.1" in [one for found in doctor.list_interfaces().values() for one in found]
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor.socket, "gethostname", lambda: "localhost")
    assert list(doctor.list_interfaces()) == ["localhost"]
