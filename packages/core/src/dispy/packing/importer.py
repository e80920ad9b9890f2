"""Imports modules whose source text came along with a computation.

The text of this very file is executed at the node, where nothing else of dispy needs to be there: it must import
nothing but the standard library, and run on every supported version of Python.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

ModuleText = tuple[str, bool, str]
"""Source text, whether it is a package, and the name of the file that it came from."""


class SourceImporter:
    """Finder and loader of modules, for `sys.meta_path`.

    Args:
        sources: full name of a module -> its text.
    """

    def __init__(self, sources: Mapping[str, ModuleText]) -> None:
        self.sources = sources

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Tell how to load the module *name*, or None if it did not come along."""
        if name not in self.sources:
            return None
        _, is_package, file = self.sources[name]
        loader: Any = self
        spec = ModuleSpec(name, loader, origin=file, is_package=is_package)
        spec.has_location = True
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave it to Python to make the module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module's text."""
        text, _, file = self.sources[module.__name__]
        exec(compile(text, file, "exec", dont_inherit=True), module.__dict__)

    def is_package(self, name: str) -> bool:
        """Tell whether the module is a package."""
        return self.sources[name][1]

    def get_source(self, name: str) -> str:
        """Return the module's text, so that tracebacks show its lines."""
        return self.sources[name][0]


def install(sources: Mapping[str, ModuleText]) -> None:
    """Make modules importable, before any of the same name that the node has itself."""
    sys.meta_path.insert(0, SourceImporter(sources))
