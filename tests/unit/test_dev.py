"""The script that sets a checkout up, on folders made for the test: it installs nothing here."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "dev"

PYPROJECT = """
[dependency-groups]
test = ["pytest>=9"]
dev = [{ include-group = "test" }, "nox"]
"""


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Load the script for a checkout in *tmp_path* with two packages; `dev.calls` records what it would run."""
    loader = SourceFileLoader("dev_script", str(SCRIPT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    for name in ("core", "node"):
        (tmp_path / "packages" / name).mkdir(parents=True)
        (tmp_path / "packages" / name / "pyproject.toml").write_text(f'[project]\nname = "dispy-{name}"\n')
    module.ROOT = tmp_path
    module.calls = []

    def call(command: list[str]) -> None:
        module.calls.append(command)
        if "venv" in command:
            environment = module.Environment(Path(command[-1]))
            environment.programs.mkdir(parents=True)
            environment.python.touch()
            (environment.folder / "pyvenv.cfg").touch()

    module.call = call
    return module


def test_an_old_python_can_read_the_script_to_the_message_for_it() -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))


def test_groups_of_requirements_include_others(dev: ModuleType) -> None:
    assert dev.dependency_group("dev") == ["pytest>=9", "nox"]


def test_set_up_makes_an_environment_and_installs_tools_and_packages(dev: ModuleType, tmp_path: Path) -> None:
    dev.Environment(tmp_path / ".venv").ensure()
    make, tools, packages = dev.calls
    assert make[1:3] == ["-m", "venv"]
    assert tools[-2:] == ["pytest>=9", "nox"]
    assert packages[-4:] == ["-e", str(tmp_path / "packages/core"), "-e", str(tmp_path / "packages/node")]


def test_the_second_time_nothing_is_done(dev: ModuleType, tmp_path: Path) -> None:
    dev.Environment(tmp_path / ".venv").ensure()
    dev.calls.clear()
    dev.Environment(tmp_path / ".venv").ensure()
    assert dev.calls == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("pyproject.toml", PYPROJECT.replace("pytest>=9", "pytest>=10")),
        ("packages/node/pyproject.toml", "# changed"),
        ("packages/new/pyproject.toml", "# new"),
    ],
)
def test_what_is_installed_is_brought_up_to_date(
    dev: ModuleType, tmp_path: Path, path: str, text: str
) -> None:
    dev.Environment(tmp_path / ".venv").ensure()
    dev.calls.clear()
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(text)
    dev.Environment(tmp_path / ".venv").ensure()
    assert [command[3] for command in dev.calls] == ["install", "install"]


def test_settings_of_tools_change_nothing(dev: ModuleType, tmp_path: Path) -> None:
    dev.Environment(tmp_path / ".venv").ensure()
    dev.calls.clear()
    (tmp_path / "pyproject.toml").write_text(f"{PYPROJECT}[tool.ruff]\nline-length = 110\n")
    dev.Environment(tmp_path / ".venv").ensure()
    assert dev.calls == []


def test_another_interpreter_makes_the_environment_anew(
    dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev.Environment(tmp_path / ".venv").ensure()
    (tmp_path / ".venv" / "old").touch()
    dev.calls.clear()
    monkeypatch.setattr(dev.sys, "version", "3.99.0 (main)")
    dev.Environment(tmp_path / ".venv").ensure()
    assert dev.calls[0][1:3] == ["-m", "venv"]
    assert not (tmp_path / ".venv" / "old").exists()


def test_a_set_up_that_failed_goes_on_next_time(
    dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(command: list[str]) -> None:
        if "-e" in command:
            raise SystemExit("no network")
        call(command)

    call = dev.call
    monkeypatch.setattr(dev, "call", fail)
    with pytest.raises(SystemExit, match="no network"):
        dev.Environment(tmp_path / ".venv").ensure()
    monkeypatch.setattr(dev, "call", call)
    dev.calls.clear()
    dev.Environment(tmp_path / ".venv").ensure()
    assert [command[3] for command in dev.calls] == ["install", "install"]


def test_a_folder_that_is_no_environment_is_left_alone(dev: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").touch()
    with pytest.raises(SystemExit, match="is no virtual environment: move it away"):
        dev.Environment(tmp_path / "precious").ensure()
    assert (tmp_path / "precious" / "data").exists()


def test_without_ensurepip_the_pip_at_hand_fills_the_environment(
    dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev.importlib.util, "find_spec", {"pip": object()}.get)
    dev.Environment(tmp_path / ".venv").ensure()
    make, tools, _ = dev.calls
    assert "--without-pip" in make
    assert tools[1:4] == ["-m", "pip", "--python"]


def test_without_any_pip_it_says_what_to_install(
    dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev.importlib.util, "find_spec", {}.get)
    with pytest.raises(SystemExit, match="apt install python3-venv"):
        dev.Environment(tmp_path / ".venv").ensure()


@pytest.mark.parametrize(("words", "status"), [(["--help"], 0), ([], 2), (["tset"], 2), (["run"], 2)])
def test_without_a_known_command_it_tells_how_it_is_used(words: list[str], status: int) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert "python3 dev test" in done.stdout
