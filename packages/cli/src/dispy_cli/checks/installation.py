"""What is installed: versions that fit, plugins that work, and nothing else that calls itself dispy."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from dispy.errors import ConflictingInstall
from dispy.plugins import PluginInfo, check_environment
from dispy_cli.checks.finding import Finding, Level

PREFIX = "dispy-"


def own_distributions() -> dict[str, str]:
    """Return name -> version of the distributions of dispy that are installed."""
    found: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        name = str(one.metadata["Name"] or "").lower().replace("_", "-")
        if name.startswith(PREFIX):
            found.setdefault(name, one.version)
    return dict(sorted(found.items()))


def check_versions(installed: dict[str, str], own: Sequence[str]) -> list[Finding]:
    """See that all distributions of dispy have one version.

    Args:
        installed: name -> version.
        own: those that come with dispy; others are plugins with versions of their own.
    """
    listed = ", ".join(f"{name} {version}" for name, version in installed.items()) or "from a source tree"
    mine = {version for name, version in installed.items() if name in own}
    text = f"Python {platform.python_version()}; {listed}"
    if len(mine) > 1:
        remedy = f"pip install --upgrade {' '.join(name for name in installed if name in own)}"
        return [Finding("versions", Level.FAIL, f"{text}: these do not fit each other", remedy)]
    return [Finding("versions", Level.OK, text)]


def check_plugins(plugins: Sequence[PluginInfo]) -> list[Finding]:
    """See that each plugin can be used."""
    bad = [
        Finding(
            "plugins",
            Level.FAIL,
            f"plugin {one.name!r} cannot be used: {one.error}",
            f"install {one.dist or one.name} again, or uninstall it; see `dispy plugins`",
        )
        for one in plugins
        if one.error
    ]
    return bad or [Finding("plugins", Level.OK, ", ".join(one.name for one in plugins))]


def check_original() -> list[Finding]:
    """See that the original dispy is not installed in the same environment."""
    try:
        check_environment()
    except ConflictingInstall as error:
        text, _, remedy = str(error).partition("; ")
        return [Finding("conflicts", Level.FAIL, text, remedy)]
    return []


GUARD = 'if __name__ == "dispy":\n    import_package()'
"""Stands in the program ``dispy.py`` that comes with dispy-cli."""


def check_shadows(path: Sequence[str], own: Path) -> list[Finding]:
    """See that nothing else on the import path is called dispy.

    Args:
        path: folders in which Python looks, in order.
        own: the folder of the package ``dispy`` that is used.
    """
    findings = []
    for other in _list_others(path, own):
        text = f"{str(other)!r} is called dispy too, and is imported in its place where it comes first"
        findings.append(Finding("conflicts", Level.WARN, text, "give it another name, or remove it"))
    return findings or [Finding("conflicts", Level.OK, f"the only dispy is in {str(own)!r}")]


def _list_others(path: Sequence[str], own: Path) -> Iterator[Path]:
    for folder in dict.fromkeys(os.path.realpath(entry or ".") for entry in path):
        for other in (Path(folder, "dispy.py"), Path(folder, "dispy", "__init__.py")):
            package = other.parent if other.name == "__init__.py" else other
            if other.is_file() and package.resolve() != own.resolve() and not _steps_aside(other):
                yield package


def _steps_aside(file: Path) -> bool:
    """Tell whether it is dispy's own program ``dispy.py``, which has the package imported in its place."""
    try:
        return GUARD in file.read_text(errors="replace")
    except OSError:
        return False  # others may be able to read it
