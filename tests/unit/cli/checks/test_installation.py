"""Versions, plugins, and others of the same name."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispy.errors import ConflictingInstall
from dispy.plugins import PluginInfo
from dispy_cli.checks import installation
from dispy_cli.checks.finding import Level

OWN = ["dispy-core", "dispy-node"]


def test_distributions_of_this_environment_are_found() -> None:
    assert "dispy-cli" in installation.own_distributions()


def test_versions_that_fit() -> None:
    (found,) = installation.check_versions({"dispy-core": "5.1", "dispy-node": "5.1", "dispy-mine": "2"}, OWN)
    assert found.level is Level.OK
    assert "dispy-node 5.1" in found.text


def test_versions_that_do_not_fit() -> None:
    (found,) = installation.check_versions({"dispy-core": "5.1", "dispy-mine": "2", "dispy-node": "5.0"}, OWN)
    assert found.level is Level.FAIL
    assert found.remedy == "pip install --upgrade dispy-core dispy-node"


def test_plugins() -> None:
    good = PluginInfo("tcp", "1", "dispy-transport-tcp", (), "")
    bad = PluginInfo("mine", "1", "dispy-mine", (), "it has no NAME")
    (found,) = installation.check_plugins([good])
    assert (found.level, found.text) == (Level.OK, "tcp")
    (found,) = installation.check_plugins([good, bad])
    assert found.level is Level.FAIL
    assert "'mine' cannot be used: it has no NAME" in found.text
    assert "dispy-mine" in found.remedy


def test_original(monkeypatch: pytest.MonkeyPatch) -> None:
    def there() -> None:
        raise ConflictingInstall("the original dispy is there; mend it:\n    pip uninstall dispy")

    assert installation.check_original() == []
    monkeypatch.setattr(installation, "check_environment", there)
    (found,) = installation.check_original()
    assert (found.level, found.text) == (Level.FAIL, "the original dispy is there")
    assert "pip uninstall dispy" in found.remedy


def test_others_of_the_same_name(tmp_path: Path) -> None:
    own = tmp_path / "site" / "dispy"
    own.mkdir(parents=True)
    (own / "__init__.py").touch()
    path = [str(own.parent), str(tmp_path), str(tmp_path / "missing")]
    (found,) = installation.check_shadows(path, own)
    assert found.level is Level.OK
    (tmp_path / "dispy.py").touch()
    (found,) = installation.check_shadows(path, own)
    assert found.level is Level.WARN
    assert repr(str(tmp_path / "dispy.py")) in found.text


def test_program_of_dispy_itself_is_no_conflict(tmp_path: Path) -> None:
    program = Path(__file__).parents[4] / "packages/cli/scripts/dispy.py"
    (found,) = installation.check_shadows([str(program.parent)], tmp_path)
    assert found.level is Level.OK
