"""Local modules: those of the user's own that a node cannot be expected to have, and their source texts.

A module is local if it comes from a ``.py`` file that belongs neither to Python nor to an installed distribution.
Functions and classes of it go by value, one by one. Where the module itself is needed, because something imports
it or mentions it, it goes as a whole: as text, with everything local that it imports, to be imported at the node
under its own name. Then state that its import sets up (locks, open files, caches) is made anew at the node.
"""

from __future__ import annotations

import ast
import dis
import functools
import importlib.util
import inspect
import os
import sys
import sysconfig
import tokenize
from collections.abc import Iterable, Iterator
from types import CodeType, ModuleType

from dispy.packing import importer
from dispy.packing.importer import ModuleText

OWN_PACKAGES = frozenset(
    {
        "dispy",
        "dispy_allocation",
        "dispy_cli",
        "dispy_faults",
        "dispy_node",
        "dispy_testing",
        "dispy_transport_tcp",
    }
)
"""dispy itself is at every node, also where it is run from a checkout."""


MAIN = "__main__"

SPAWNED_MAIN = "__mp_main__"
"""What the main module is called in a child that multiprocessing has spawned; there ``__main__`` is the same module."""

MAINS = frozenset({MAIN, SPAWNED_MAIN})


def is_local(module: object) -> bool:
    """Tell whether nodes need the module's source text. ``__main__`` is no module in this sense."""
    # Libraries put all kinds of objects into sys.modules, and some of them only pretend to be modules (cffi's do).
    if not issubclass(type(module), ModuleType):
        return False
    # Not by plain attribute access, which would load a module that is to be loaded at first use.
    attributes = object.__getattribute__(module, "__dict__")
    name, file = attributes.get("__name__"), attributes.get("__file__")
    return isinstance(name, str) and isinstance(file, str) and _is_local_file(name, file)


@functools.lru_cache(maxsize=4096)
def _is_local_file(name: str, file: str) -> bool:
    top = name.partition(".")[0]
    if top in OWN_PACKAGES or top in sys.stdlib_module_names or name in MAINS:
        return False
    if not file.endswith(".py"):
        return False
    path = os.path.abspath(file)
    parts = path.split(os.sep)
    if "site-packages" in parts or "dist-packages" in parts:
        return False
    return not any(path.startswith(folder + os.sep) for folder in _library_folders())


@functools.cache
def _library_folders() -> frozenset[str]:
    """Return the folders of Python's own library."""
    paths = sysconfig.get_paths()
    return frozenset(os.path.abspath(paths[kind]) for kind in ("stdlib", "platstdlib"))


class ModuleSources:
    """Collects local modules: name -> text; whatever local module they import comes along.

    Args:
        known: modules that are at the node already.

    Attributes:
        texts: what was found so far.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        self.texts: dict[str, ModuleText] = {}
        self._seen: set[str] = set(known)

    def add(self, names: Iterable[str]) -> None:
        """Take the modules of these names that are local, their parents, and what they import.

        Names that are not local, or of no module at all, are passed over.
        """
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            parent = name.rpartition(".")[0]
            if name in self._seen:
                continue
            if parent and parent not in self._seen:
                waiting += (name, parent)
                continue
            self._seen.add(name)
            text = self._find(name, parent)
            if text is not None:
                self.texts[name] = text
                waiting.extend(imported_names(text[0], name, is_package=text[1]))

    def _find(self, name: str, parent: str) -> ModuleText | None:
        module = sys.modules.get(name)
        if module is not None:
            return _loaded_text(module)
        if not parent:
            return _findable_text(name)
        # Nothing is imported in order to find it: it must lie in the folder of a package that was found.
        package = self.texts.get(parent)
        if package is None or not package[1] or not package[2]:
            return None
        stem = os.path.join(os.path.dirname(package[2]), name.rpartition(".")[2])
        return _read(stem + ".py", False) or _read(os.path.join(stem, "__init__.py"), True)


def _loaded_text(module: ModuleType) -> ModuleText | None:
    if is_local(module):
        return _read(str(module.__file__), hasattr(module, "__path__"))
    if getattr(module, "__file__", None) is None and hasattr(module, "__path__"):
        return _namespace_text(list(module.__path__), module.__name__)
    return None


def _findable_text(name: str) -> ModuleText | None:
    """Find a top-level module that is not imported, without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None  # somebody's import hook refuses: the node will say so if it matters
    if spec is None:
        return None
    folders = spec.submodule_search_locations
    if spec.origin is None or not spec.has_location:
        return _namespace_text(list(folders), name) if folders else None
    return _read(spec.origin, folders is not None) if _is_local_file(name, spec.origin) else None


def _namespace_text(folders: list[str], name: str) -> ModuleText | None:
    """Stand in for a package without ``__init__`` by an empty one, if its modules are local."""
    if folders and _is_local_file(name, os.path.join(folders[0], "__init__.py")):
        return "", True, os.path.join(folders[0], "__init__.py")
    return None


def _read(file: str, is_package: bool) -> ModuleText | None:
    try:
        with tokenize.open(file) as stream:
            return stream.read(), is_package, os.path.abspath(file)
    except (OSError, SyntaxError, UnicodeDecodeError):
        return _read_by_loader(file, is_package)


def _read_by_loader(file: str, is_package: bool) -> ModuleText | None:
    """Read a module that does not lie in a folder, but say in an archive."""
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == file:
            try:
                return inspect.getsource(module), is_package, file
            except (OSError, TypeError):
                return None
    return None


def files_of(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Yield (path, place below the import path) of a local module's files: for a package all that is in it.

    Of the packages that it lies in there come only those files that make them packages.
    """
    name = module.__name__
    parts = name.split(".")
    for count in range(1, len(parts)):
        parent = sys.modules.get(".".join(parts[:count]))
        if is_local(parent):
            yield str(parent.__file__), "/".join((*parts[:count], "__init__.py"))  # type: ignore[union-attr]
    if not hasattr(module, "__path__"):
        if is_local(module):
            yield str(module.__file__), "/".join(parts) + ".py"
        return
    for folder in dict.fromkeys(module.__path__):
        if _is_local_file(name, os.path.join(folder, "__init__.py")):
            yield from _files_below(folder, parts)


def _files_below(folder: str, parts: list[str]) -> Iterator[tuple[str, str]]:
    for base, folders, names in os.walk(folder):
        # Caches and what is hidden (version control, editors) is of no use to jobs.
        folders[:] = sorted(one for one in folders if one != "__pycache__" and not one.startswith("."))
        inner = os.path.relpath(base, folder).split(os.sep) if base != folder else []
        for one in sorted(names):
            path = os.path.join(base, one)
            if not one.startswith(".") and not one.endswith(".pyc") and os.path.isfile(path):
                yield path, "/".join((*parts, *inner, one))


def modules_in(module: ModuleType) -> Iterator[str]:
    """Yield the full names of a local module and, if it is a package, of all modules in it; nothing is imported."""
    yield module.__name__
    for _, place in files_of(module):
        parts = place.removesuffix(".py").split("/")
        if place.endswith(".py") and all(part.isidentifier() for part in parts):
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(text: str, name: str, *, is_package: bool) -> Iterator[str]:
    """Yield the full names of what module *name* imports anywhere; some may be functions or classes, not modules."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return  # its import will say so
    package = name if is_package else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node.module or "", node.level, package)
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _absolute(module: str, level: int, package: str) -> str:
    if not level:
        return module
    parents = package.split(".")
    if level > len(parents):
        return ""
    base = ".".join(parents[: len(parents) - level + 1])
    return f"{base}.{module}" if base and module else base


def names_imported_by(code: CodeType, package: str = "") -> Iterator[str]:
    """Yield the full names of what a function's code may import, as `imported_names` does for a module.

    Code does not tell simply whether an import is relative; with *package*, each is taken for both.
    """
    base = ""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            base = str(instruction.argval)
            found = base
        elif instruction.opname == "IMPORT_FROM":
            found = f"{base}.{instruction.argval}" if base else str(instruction.argval)
        else:
            continue
        if base:
            yield found
        if package and found:
            yield f"{package}.{found}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_imported_by(constant, package)


def loading_text() -> str:
    """Return a text that, executed with ``SOURCES`` in its globals, makes those modules importable."""
    return f"{inspect.getsource(importer)}\n\ninstall(SOURCES)\n"
