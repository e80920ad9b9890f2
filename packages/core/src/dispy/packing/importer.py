"""Imports modules whose source text came along with a computation.

If the files of a module came along too (`depends` names it), its ``__file__`` and ``__path__`` are those here, so that
it finds its data: by its own folder, by `importlib.resources`, by `pkgutil`. Else they are those at the client, where
there is nothing to be found. Its code has the client's file names in any case, for tracebacks.

The text of this very file is executed at the node, where nothing else of dispy needs to be there: it must import
nothing but the standard library, and run on every supported version of Python.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import ModuleType
from typing import Any

ModuleText = tuple[str, bool, str]
"""Source text, whether it is a package, and the name of the file that it came from."""


class SourceImporter:
    """Finder and loader of modules, for `sys.meta_path`.

    Args:
        sources: full name of a module -> its text.
        folder: where files of modules are, if they came along.
    """

    def __init__(self, sources: Mapping[str, ModuleText], folder: str) -> None:
        self.sources = sources
        self._folder = folder

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Tell how to load the module *name*, or None if it did not come along."""
        if name not in self.sources:
            return None
        _, is_package, file = self.sources[name]
        place = self._place(name)
        loader: Any = self
        spec = ModuleSpec(name, loader, origin=place or file, is_package=is_package)
        spec.has_location = True
        if place and is_package:
            spec.submodule_search_locations = [os.path.dirname(place)]
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

    def get_data(self, path: str) -> bytes:
        """Return what a file holds, as `pkgutil.get_data` wants it.

        Raises:
            OSError: it cannot be read.
        """
        try:
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError as error:
            raise _not_here(path) from error

    def get_resource_reader(self, name: str) -> Any:
        """Return what `importlib.resources` reads files of a package with.

        Raises:
            FileNotFoundError: only the text of its modules came along.
        """
        place = self._place(name)
        if not place:
            raise _not_here(os.path.dirname(self.sources[name][2]))
        return SourceFileLoader(name, place).get_resource_reader(name)

    def _place(self, name: str) -> str:
        """Return the path of the module's file here, or nothing if it did not come along."""
        text, is_package, _ = self.sources[name]
        path = os.path.join(self._folder, *name.split("."))
        path = os.path.join(path, "__init__.py") if is_package else f"{path}.py"
        try:
            with open(path, "rb") as file:
                found = file.read()
        except OSError:
            return ""
        from importlib.util import decode_source

        try:
            return path if decode_source(found) == text else ""  # one that jobs have made is another module
        except (SyntaxError, UnicodeDecodeError):
            return ""


def _not_here(path: str) -> FileNotFoundError:
    return FileNotFoundError(
        errno.ENOENT, "it did not come along with the code: name its package in depends=[...]", path
    )


def install(sources: Mapping[str, ModuleText]) -> None:
    """Make modules importable, before any of the same name that the node has itself.

    The working directory must be that of jobs.
    """
    sys.meta_path.insert(0, SourceImporter(sources, os.getcwd()))
