"""The distributions fit together: one version, one licence, bounds that include it, extras that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
PROJECTS: dict[str, dict[str, Any]] = {
    folder.name: tomllib.loads((folder / "pyproject.toml").read_text())["project"] for folder in FOLDERS
}
OWN = {project["name"]: project for project in PROJECTS.values()}
EACH_PROJECT = pytest.mark.parametrize("folder", PROJECTS)
REQUIREMENT = re.compile(r"(?P<name>[a-z0-9-]+)(\[(?P<extras>[a-z0-9,-]+)\])?(?P<bounds>.*)")


def requirements(project: dict[str, Any]) -> list[re.Match[str]]:
    """Return the parsed requirements of a distribution and of its extras."""
    texts = list(project["dependencies"])
    for extra in project.get("optional-dependencies", {}).values():
        texts += extra
    parsed = [REQUIREMENT.fullmatch(text) for text in texts]
    assert None not in parsed, texts
    return [match for match in parsed if match]


@EACH_PROJECT
def test_metadata_is_that_of_the_others(folder: str) -> None:
    core, project = PROJECTS["core"], PROJECTS[folder]
    for field in ("version", "license", "requires-python", "authors", "classifiers"):
        assert project[field] == core[field], field
    assert project["name"] == f"dispy-{folder}"
    assert project["description"]


@EACH_PROJECT
def test_bounds_of_own_distributions_begin_at_the_current_version(folder: str) -> None:
    version = PROJECTS["core"]["version"]
    for needed in requirements(PROJECTS[folder]):
        if needed["name"] in OWN and not needed["extras"]:
            assert needed["bounds"] == f">={version},<{int(version.split('.')[0]) + 1}"


@EACH_PROJECT
def test_foreign_distributions_have_a_lowest_version(folder: str) -> None:
    for needed in requirements(PROJECTS[folder]):
        if needed["name"] not in OWN:
            assert re.fullmatch(r">=\d+(\.\d+)*", needed["bounds"]), needed[0]


@EACH_PROJECT
def test_extras_that_are_asked_for_exist(folder: str) -> None:
    for needed in requirements(PROJECTS[folder]):
        for extra in (needed["extras"] or "").split(","):
            assert not extra or extra in OWN[needed["name"]]["optional-dependencies"]


def test_all_means_every_extra() -> None:
    extras = PROJECTS["core"]["optional-dependencies"]
    (everything,) = extras["all"]
    match = REQUIREMENT.fullmatch(everything)
    assert match
    assert set(match["extras"].split(",")) == set(extras) - {"all"}


@EACH_PROJECT
def test_plugins_are_named_where_they_are(folder: str) -> None:
    plugins = PROJECTS[folder].get("entry-points", {}).get("dispy", {})
    modules = [path.parent.name for path in ROOT.glob(f"packages/{folder}/src/*/plugin.py")]
    assert list(plugins.values()) == [f"{module}.plugin" for module in modules]


@EACH_PROJECT
def test_readme_says_what_it_is(folder: str) -> None:
    title, blank, text, *_more = (ROOT / "packages" / folder / "README.md").read_text().splitlines()
    assert title == f"# dispy-{folder}"
    assert blank == ""
    assert text.endswith(".")
