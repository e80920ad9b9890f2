"""Rules of the repository that a glance at its files can check; CONTRIBUTING.md tells them in words."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
MODULES = sorted(path for folder in PACKAGES for path in (folder / "src").rglob("*.py"))
INIT_FILES = [path for path in MODULES if path.name == "__init__.py"]

# Modules without a test file of their own, and where they are tested instead.
TESTED_ELSEWHERE: dict[str, str] = {
    "core/engine/effects.py": "plain values: every test of the engine compares them",
    "core/engine/events.py": "plain values: every test of the engine sends them",
    "core/engine/records.py": "plain values: every test of the engine reads them",
    "core/discovery.py": "plain values and interfaces: tests of searches and of contracts use them",
    "discovery-udp/engine/values.py": "plain values: every test of the engines sends and compares them",
    "node/engine/effects.py": "plain values: every test of the engine compares them",
    "node/engine/events.py": "plain values: every test of the engine sends them",
    "node/engine/records.py": "plain values: every test of the engine reads them",
}

# Written in two parts, so that this file itself does not hold them.
FORBIDDEN = {
    "TO" + "DO": "open an issue instead",
    "FIX" + "ME": "open an issue instead",
    "XX" + "X": "open an issue instead",
    "/wo" + "rk/": "a path of somebody's machine",
    "/ro" + "ot/": "a path of somebody's machine",
    "pypi" + ".org": "the user's own settings choose the index",
    "pythonhosted" + ".org": "the user's own settings choose the index",
}
WORD = re.compile("|".join(rf"(?<![A-Za-z0-9]){re.escape(text)}" for text in FORBIDDEN))


def package_folder(module: Path) -> str:
    """Return the name of the folder in packages/ that a module is in."""
    return module.relative_to(ROOT / "packages").parts[0]


def inner_parts(module: Path) -> tuple[str, ...]:
    """Return the path of a module below its import package."""
    return module.relative_to(ROOT / "packages").parts[3:]


def tracked_texts() -> list[Path]:
    """Return the files of the repository that are text, those not yet added too."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    paths = [ROOT / line for line in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:4096]]


def test_files_hold_no_forbidden_words() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]!r}: {FORBIDDEN[match[0]]}"
        for path in tracked_texts()
        for match in WORD.finditer(path.read_text(errors="replace"))
    ]
    assert not found, "\n".join(found)


def test_there_are_modules() -> None:
    assert len(PACKAGES) >= 6
    assert len(MODULES) > 20


@pytest.mark.parametrize("module", MODULES, ids=[str(path.relative_to(ROOT)) for path in MODULES])
def test_module_has_a_telling_name(module: Path) -> None:
    assert module.stem not in {"utils", "util", "common", "helpers", "misc"}


@pytest.mark.parametrize("module", MODULES, ids=[str(path.relative_to(ROOT)) for path in MODULES])
def test_module_has_a_test_file(module: Path) -> None:
    if module.name in {"__init__.py", "__main__.py"}:
        return
    folder, inner = package_folder(module), inner_parts(module)
    key = "/".join([folder, *inner])
    tests = ROOT / "tests" / "unit" / folder.replace("-", "_")
    names = {
        tests.joinpath(*inner[:-1], f"test_{module.stem}.py"),
        tests / f"test_{'_'.join([*inner[:-1], module.stem])}.py",
    }
    if sum(other.name == module.name and package_folder(other) == folder for other in MODULES) == 1:
        names.add(tests / f"test_{module.stem}.py")
    has_test = any(path.is_file() for path in names)
    assert has_test or key in TESTED_ELSEWHERE, f"none of {sorted(str(p.relative_to(ROOT)) for p in names)}"


def test_list_of_modules_tested_elsewhere_is_true() -> None:
    assert set(TESTED_ELSEWHERE) <= {"/".join([package_folder(path), *inner_parts(path)]) for path in MODULES}


@pytest.mark.parametrize("module", INIT_FILES, ids=[str(path.relative_to(ROOT)) for path in INIT_FILES])
def test_init_file_only_gives_names_on(module: Path) -> None:
    for node in ast.parse(module.read_text()).body:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant(value=str())):
                pass
            case ast.Assign(targets=[ast.Name(id="__all__" | "__version__")]):
                pass
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pass
            case ast.FunctionDef(name="__getattr__" | "__dir__"):  # names that are imported when first used
                pass
            case _:
                pytest.fail(f"line {node.lineno}: an __init__.py holds imports and __all__ only")


@pytest.mark.parametrize("package", PACKAGES, ids=[path.name for path in PACKAGES])
def test_package_says_that_it_is_typed(package: Path) -> None:
    assert [path.name for path in (package / "src").glob("*/py.typed")] == ["py.typed"]


def test_all_packages_have_one_version() -> None:
    versions = {
        folder.name: tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"]
        for folder in PACKAGES
    }
    source = (ROOT / "packages/core/src/dispy/__init__.py").read_text()
    (told,) = re.findall(r'^__version__ = "(.*)"$', source, flags=re.MULTILINE)
    assert set(versions.values()) == {told}, versions


def test_each_package_has_a_section_in_the_changelog() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
    sections = {section["path"] for section in settings["section"]}
    assert sections == {folder.name for folder in PACKAGES} | {"project"}


def test_news_fragments_are_where_they_are_looked_for() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
    kinds = "|".join(kind["directory"] for kind in settings["type"])
    sections = {section["path"] for section in settings["section"]}
    for path in ROOT.glob("newsfragments/*/*"):
        assert path.parent.name in sections, path
        assert re.fullmatch(rf"\d+(\.\d+)?\.({kinds})(\.\d+)?\.md", path.name), path


def test_checkers_see_every_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    imports = {path.parent.name for folder in PACKAGES for path in (folder / "src").glob("*/py.typed")}
    assert set(settings["mypy"]["mypy_path"]) == {f"packages/{folder.name}/src" for folder in PACKAGES}
    assert set(settings["coverage"]["run"]["source_pkgs"]) == imports
    assert set(settings["ruff"]["lint"]["isort"]["known-first-party"]) == imports


def test_ci_runs_the_commands_of_the_readme() -> None:
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    for command in ("dev demo", "dev test"):
        assert f"python3 {command}" in readme
        assert f'"$python" {command}\n' in ci
