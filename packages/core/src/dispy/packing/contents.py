"""What goes into the code of a computation: functions and classes, and the local modules that they need."""

from __future__ import annotations

import functools
import io
import sys
from types import FunctionType, MethodType, ModuleType
from typing import Any

from dispy.errors import NotPicklable, UsageError
from dispy.packing.callee import Callee
from dispy.packing.diagnosis import find_culprit
from dispy.packing.lines import LinesOf
from dispy.packing.modules import MAIN, MAINS, ModuleSources, loading_text, modules_in, names_imported_by
from dispy.packing.pickler import BundlePickler, ByName, Filling, FirstCall, Installation, Names, error_of
from dispy.packing.preparation import Preparation

INIT_DEPENDS = "init_depends"
"""A function in ``depends`` with this name is called each time the code is loaded, before all else is."""


class Contents:
    """What goes into the bundle of a function, or with a program.

    Attributes:
        name: what the computation is called, for people.
        target: what is called; None with a program.
        preparation: what runs before and after its jobs.
        first: `INIT_DEPENDS`, or None.
        names: name in the computation's namespace -> function or class.
        found: what is pickled by value and known by name at the node, so that arguments may refer to it.
        sources: local modules that go as a whole.
        main: globals of the program's main module.
    """

    def __init__(self, callee: Callee | None, preparation: Preparation) -> None:
        self.preparation = preparation
        self.first: FunctionType | None = None
        self.names: dict[str, object] = {}
        self.found: Names = {}
        self.sources = ModuleSources()
        self.target: object = None
        self.main = vars(sys.modules[MAIN])
        if callee is None:
            self.name = " and ".join(preparation.functions)
        else:
            self.name = callee.name
            self._add_callee(callee)

    def _add_callee(self, callee: Callee) -> None:
        self.target = callee.called
        if isinstance(callee.called, tuple):
            self.target = ByName(*callee.called)
        else:
            self._add_name(getattr(callee.called, "func", callee.called))
        if callee.owner is not None:
            self._add_name(callee.owner)
        namespace = callee.function.__globals__
        if namespace.get("__name__", MAIN) in MAINS:
            self.main = namespace

    def is_whole(self, module: str) -> bool:
        """Tell whether a local module goes as a whole."""
        return module in self.sources.texts

    def add(self, element: object, number: int) -> None:
        """Take element *number* of ``depends``, which is neither a file nor a module."""
        if isinstance(element, FunctionType) and element.__name__ == INIT_DEPENDS:
            if self.first not in (None, element):
                raise UsageError(
                    f"element {number} of depends is a second function {INIT_DEPENDS!r}: give one"
                )
            self.first = element
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
        self.sources.add(modules_in(module))

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
            pickler = self._pickler(file)
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

    def _pickler(self, file: io.BytesIO) -> BundlePickler:
        return BundlePickler(file, self.main, self.is_whole)

    def whole_sources(self) -> ModuleSources:
        """Return the local modules for a source bundle, where all of them go as a whole."""
        sources = ModuleSources()
        sources.add(sorted({*self.sources.texts, *self.found} - {MAIN}))
        return sources

    def _content(self, pickler: BundlePickler) -> dict[str, object]:
        content: dict[str, object] = {}
        if self.sources.texts:
            content["modules"] = Installation(loading_text(), self.sources.texts)
        if (
            self.first is not None
        ):  # loaded in this order: modules can be imported then, and nothing else is there
            content["first"] = FirstCall(self.first)
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
        content |= {"names": self.names, "compute": self.target} | self.preparation.functions
        return content | {"lines": LinesOf(pickler.functions)}  # last, when all functions are known

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
            return error_of(lambda: self._pickler(io.BytesIO()).dump(value))

        parts = {} if self.target is None else {f"function {self.name!r}": self.target}
        parts |= {f"{role} function": function for role, function in self.preparation.functions.items()}
        parts |= {f"{name!r} of depends": value for name, value in self.names.items()}
        for label, value in parts.items():
            failure = attempt(value)
            if failure is not None:
                return NotPicklable(
                    f"{label} cannot be sent to nodes: {find_culprit(value, attempt, failure)}; "
                    "make such things inside the function, or pass plain data instead"
                )
        return NotPicklable(f"function {self.name!r} cannot be sent to nodes: {error}")

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
