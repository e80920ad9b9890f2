"""Packs a computation: its code for any node's Python, its files, and the arguments of its jobs."""

from __future__ import annotations

import functools
import io
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import FunctionType, MethodType, ModuleType
from typing import Any

from dispy.engine.records import SourceFile
from dispy.errors import InvalidComputation, NotPicklable, UsageError
from dispy.model import Pieces, PythonVersion
from dispy.packing.arguments import ArgumentPacker, pack_program_arguments
from dispy.packing.callee import Callee, examine
from dispy.packing.diagnosis import find_culprit
from dispy.packing.files import Files
from dispy.packing.modules import MAIN, MAINS, ModuleSources, is_local, loading_text, names_imported_by
from dispy.packing.pickler import BundlePickler, ByName, Filling, Installation, Names, error_of
from dispy.packing.source import SourceUnavailable, source_bundle

OWN_VERSION = PythonVersion(*sys.version_info[:3])

SAFE_RESULTS = b"R"
"""Stands before a bundle whose results are to be encoded without pickle; see `dispy.packing.safe`."""


class FunctionBundle:
    """A function computation, packed. Safe to use from several threads.

    Attributes:
        name: name of the function.
        is_function: True.
        files: files to place at the node.
        code: the bundle for nodes whose Python shares bytecode with this one.
    """

    is_function = True

    def __init__(
        self, callee: Callee, contents: _Contents, files: Sequence[SourceFile], *, safe_results: bool
    ) -> None:
        self._head = SAFE_RESULTS if safe_results else b""
        self.name = callee.name
        self.code = self._head + contents.pickle()
        self.files = files
        self._callee = callee
        self._contents = contents
        self._arguments = ArgumentPacker(contents.found, contents.is_whole)
        self._lock = threading.Lock()
        self._text: bytes | SourceUnavailable | None = None

    def for_python(self, version: PythonVersion) -> bytes | str:
        """Return the code for a node with that Python, or a text that says why it cannot have any."""
        if version.shares_bytecode_with(OWN_VERSION):
            return self.code
        with self._lock:
            if self._text is None:
                self._text = self._make_text()
        if isinstance(self._text, bytes):
            return self._text
        return (
            f"the node has Python {version} and the client {OWN_VERSION}, so {self.name!r} would have to go as "
            f"source text, but {self._text}; use Python {OWN_VERSION.major}.{OWN_VERSION.minor} at the node, "
            "or move what has no text to the top of a file"
        )

    def _make_text(self) -> bytes | SourceUnavailable:
        contents = self._contents
        try:
            return self._head + source_bundle(contents.target, contents.names, contents.whole_sources().texts)
        except SourceUnavailable as unavailable:
            return unavailable

    def bind_arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the positional arguments as the node's function takes them; see `Callee.bind_arguments`."""
        return self._callee.bind_arguments(args, kwargs)

    def pack_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes | Pieces:
        """Make the body of a job.

        Raises:
            NotPicklable: an argument cannot be sent; the message names it.
        """
        if self._callee.instance is not None:
            args = self._callee.bind_arguments(args, kwargs)
        return self._arguments.pack(args, kwargs)


class ProgramBundle:
    """A program computation, packed.

    Attributes:
        name: file name of the program, without directory.
        is_function: False.
        files: the program and the files that it needs.
    """

    is_function = False

    def __init__(self, program: SourceFile, files: Sequence[SourceFile]) -> None:
        self.name = program.path
        self.files = files

    def for_python(self, version: PythonVersion) -> bytes | str:
        """Return the name of the program's file at the node; the version does not matter."""
        return self.name.encode("utf-8", "surrogateescape")

    def pack_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Make the body of a job; see `pack_program_arguments`."""
        return pack_program_arguments(args, kwargs)


CodeBundle = FunctionBundle | ProgramBundle


def pack_computation(
    computation: object, depends: Sequence[object] = (), *, safe_results: bool = False
) -> CodeBundle:
    """Pack a function, or the path or name of a program; *depends* is left as it is.

    Args:
        safe_results: nodes are to send results of the function without pickle; a program has none.

    Raises:
        InvalidComputation: it is neither, or not one that can work.
        NotPicklable: the function refers to something that cannot be sent.
        UsageError: something in *depends* cannot be used.
    """
    if isinstance(computation, (str, os.PathLike)):
        return pack_program(os.fspath(computation), depends)
    return pack_function(computation, depends, safe_results=safe_results)


def pack_function(
    compute: object, depends: Sequence[object] = (), *, safe_results: bool = False
) -> FunctionBundle:
    """Pack a function with what it needs; raises as `pack_computation`."""
    callee = examine(compute)
    files = Files()
    contents = _Contents(callee)
    for number, element in enumerate(_elements(depends), 1):
        if isinstance(element, (str, os.PathLike)):
            files.add(os.fspath(element))
        elif isinstance(element, ModuleType):
            contents.add_module(element)
            _add_module_file(files, element)
        else:
            contents.add(element, number)
    return FunctionBundle(callee, contents, files.all(), safe_results=safe_results)


def pack_program(path: str, depends: Sequence[object] = ()) -> ProgramBundle:
    """Pack a program, given by path or by its name on PATH, with the files and modules that it needs.

    Raises:
        InvalidComputation: there is no such program, or it may not be executed.
        UsageError: something in *depends* is neither a file nor a module.
    """
    files = Files()
    found = _find_program(path)
    program = files.add(found, os.path.basename(found))
    for number, element in enumerate(_elements(depends), 1):
        if isinstance(element, (str, os.PathLike)):
            name = os.fspath(element)
            files.add(name if os.path.exists(name) else _on_path(name) or name)
        elif isinstance(element, ModuleType):
            _add_module_file(files, element)
        else:
            raise UsageError(
                f"element {number} of depends ({type(element).__name__}) is of no use to a program; "
                "give paths of files, or modules"
            )
    return ProgramBundle(program, files.all())


class _Contents:
    """What goes into the bundle of a function.

    Attributes:
        target: what is called.
        names: name in the computation's namespace -> function or class.
        found: what is pickled by value and known by name at the node, so that arguments may refer to it.
        sources: local modules that go as a whole.
    """

    def __init__(self, callee: Callee) -> None:
        self.callee = callee
        self.names: dict[str, object] = {}
        self.found: Names = {}
        self.sources = ModuleSources()
        self.target = callee.called
        if isinstance(callee.called, tuple):
            self.target = ByName(*callee.called)
        else:
            self._add_name(getattr(callee.called, "func", callee.called))
        if callee.owner is not None:
            self._add_name(callee.owner)
        namespace = callee.function.__globals__
        in_main = namespace.get("__name__", MAIN) in MAINS
        self._main = namespace if in_main else vars(sys.modules[MAIN])

    def is_whole(self, module: str) -> bool:
        """Tell whether a local module goes as a whole."""
        return module in self.sources.texts

    def add(self, element: object, number: int) -> None:
        """Take element *number* of ``depends``, which is neither a file nor a module."""
        if isinstance(element, MethodType):
            owner = element.__self__
            self._add_name(owner if isinstance(owner, type) else type(owner))
        elif isinstance(element, functools.partial):
            self.add(element.func, number)
        elif isinstance(element, (type, FunctionType)) or hasattr(element, "__wrapped__"):
            self._add_name(element)
        elif type(element).__module__ == "builtins":
            raise UsageError(
                f"element {number} of depends is {element!r}, of which nothing can be sent; "
                "give functions, classes, instances of your classes, modules, or paths of files"
            )
        else:
            self._add_name(type(element))

    def add_module(self, module: ModuleType) -> None:
        """Take a module: a local one goes along, an installed one must be at the node."""
        self.sources.add([module.__name__])

    def pickle(self) -> bytes:
        """Return the bundle for the same version of Python.

        What is found on the way (names to give, modules to take along) is in the bundle in the next round, until
        nothing new is found. If something of a local module cannot go by value, because of a lock among its
        globals say, the module goes as a whole.

        Raises:
            NotPicklable: something that is referred to cannot be sent; the message names it.
        """
        while True:
            size = self._size()
            file = io.BytesIO()
            file.write(b"P")
            pickler = BundlePickler(file, self._main, self.is_whole)
            try:
                pickler.dump(self._content(pickler))
            except (
                Exception
            ) as error:  # objects that are referred to run their own code, which may raise anything
                self.sources.add(sorted(module for module in pickler.found if module != MAIN))
                if self._size() == size:
                    raise self._explained(error) from error
                continue
            self._take_over(pickler)
            if self._size() == size:
                return file.getvalue()

    def whole_sources(self) -> ModuleSources:
        """Return the local modules for a source bundle, where all of them go as a whole."""
        sources = ModuleSources()
        sources.add(sorted({*self.sources.texts, *self.found} - {MAIN}))
        return sources

    def _content(self, pickler: BundlePickler) -> dict[str, object]:
        content: dict[str, object] = {}
        if self.sources.texts:
            content["modules"] = Installation(loading_text(), self.sources.texts)
        parts = [module for module in self.found if module != MAIN and not self.is_whole(module)]
        if parts:
            packages = {
                parent for module in parts for parent in _parents(module) if not self.is_whole(parent)
            }
            content["parts"] = [
                Filling(
                    pickler.namespace(module), {**self.found.get(module, {}), "__package__": _package(module)}
                )
                for module in sorted({*parts, *packages})
            ]
        return content | {"names": self.names, "compute": self.target}

    def _take_over(self, pickler: BundlePickler) -> None:
        self.found = pickler.found
        self.names.update(pickler.found.get(MAIN, {}))
        self.sources.add(sorted(pickler.modules))
        for function in pickler.functions:
            package = function.__globals__.get("__package__")
            self.sources.add(
                names_imported_by(function.__code__, package if isinstance(package, str) else "")
            )

    def _size(self) -> tuple[int, int, int]:
        return len(self.names), len(self.sources.texts), sum(map(len, self.found.values()))

    def _explained(self, error: Exception) -> NotPicklable:
        def attempt(value: object) -> BaseException | None:
            return error_of(lambda: BundlePickler(io.BytesIO(), self._main, self.is_whole).dump(value))

        parts = {f"function {self.callee.name!r}": self.target}
        parts |= {f"{name!r} of depends": value for name, value in self.names.items()}
        for label, value in parts.items():
            failure = attempt(value)
            if failure is not None:
                return NotPicklable(
                    f"{label} cannot be sent to nodes: {find_culprit(value, attempt, failure)}; "
                    "make such things inside the function, or pass plain data instead"
                )
        return NotPicklable(f"function {self.callee.name!r} cannot be sent to nodes: {error}")

    def _add_name(self, value: Any) -> None:
        name = getattr(value, "__name__", "")
        if isinstance(name, str) and name.isidentifier():
            self.names[name] = value


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _package(module: str) -> str:
    """Return the package that relative imports in a module start from."""
    return module if hasattr(sys.modules.get(module), "__path__") else module.rpartition(".")[0]


def _elements(depends: Any) -> Iterator[object]:
    if depends is None:
        return iter(())
    if isinstance(depends, (str, bytes)) or not hasattr(depends, "__iter__"):
        raise UsageError(f"depends must be a list, not {depends!r}")
    return iter(depends)


def _add_module_file(files: Files, module: ModuleType) -> None:
    """Send the module's file, to where Python finds it: jobs may start programs that import it too."""
    if is_local(module):
        folders = module.__name__.split(".")
        if hasattr(module, "__path__"):
            folders.append("__init__")
        files.add(str(module.__file__), "/".join(folders) + ".py")


def _find_program(path: str) -> str:
    """Return the path of a program's file.

    Raises:
        InvalidComputation: there is none, or it may not be executed.
    """
    found = path if os.path.exists(path) else _on_path(path)
    if found is None:
        raise InvalidComputation(
            f"file {path!r} is not valid: it is neither a file here nor a program on PATH; "
            "give the path of a program, or a function"
        )
    if not os.path.isfile(found):
        raise InvalidComputation(
            f"file {path!r} is not valid: it is not a regular file; give the path of a program"
        )
    if not found.endswith(".py") and os.name != "nt" and not os.access(found, os.X_OK):
        raise InvalidComputation(
            f"file {path!r} is not valid: it is not executable; mark it with: chmod +x {found}"
        )
    return found


def _on_path(name: str) -> str | None:
    """Look for a file along PATH; unlike `shutil.which`, a Python program need not be executable."""
    if os.path.isabs(name):
        return None
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        candidate = os.path.join(folder or os.curdir, name)
        if os.path.isfile(candidate):
            return candidate
    return None
