"""How functions, classes and modules are pickled, for bundles and for arguments.

Whatever belongs to ``__main__`` (scripts, notebooks, ``-c``, the interactive prompt) and cannot be found by name
at a node goes by value, as cloudpickle does it; everything else goes by reference. This module imports
cloudpickle: import it only when something is to be pickled.
"""

from __future__ import annotations

import functools
import io
import operator
import sys
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import cloudpickle.cloudpickle as reducers  # type: ignore[import-untyped]

from dispy.packing.modules import is_local

PROTOCOL = 5
"""Pickle protocol: the newest that every supported Python has."""

MAIN = "__main__"


class MainNamespace:
    """Stands in a bundle for the globals of ``__main__`` functions: at the node, the computation's namespace."""


class ModuleNamespace:
    """Stands for the globals of functions that live in a module but cannot be found there by name.

    So that a closure made by a module shares that module's globals at the node, rather than having copies.
    """

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.module, "__dict__")


class Installation:
    """Unpickled, it makes local modules importable; its value is None."""

    def __init__(self, text: str, sources: Mapping[str, Any]) -> None:
        self.text = text
        self.sources = dict(sources)

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.text, {"SOURCES": self.sources, "__name__": "dispy_sources"})


class ByName:
    """An attribute that is looked up at the node: ``ByName(cls, "method")``."""

    def __init__(self, owner: object, name: str) -> None:
        self.owner = owner
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.owner, self.name)


class BundlePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles the code of a computation, and notes what it came across.

    Args:
        main: globals of the program's ``__main__``.

    Attributes:
        found: functions and classes of ``__main__`` that were pickled by value, by the name they have there.
        modules: names of the modules that were referred to.
        functions: every function that was pickled by value.
    """

    def __init__(self, file: io.BytesIO, main: Mapping[str, object]) -> None:
        super().__init__(file, protocol=PROTOCOL)
        self._main = main
        self._main_namespace = MainNamespace()
        self.found: dict[str, object] = {}
        self.modules: set[str] = set()
        self.functions: list[FunctionType] = []

    def persistent_id(self, obj: object) -> tuple[str, str] | None:
        """Name the computation's namespace, rather than pickle its present contents."""
        return ("namespace", MAIN) if obj is self._main_namespace else None

    def reducer_override(self, obj: Any) -> Any:
        """Reduce functions and classes as cloudpickle does, and note them."""
        if isinstance(obj, functools._lru_cache_wrapper) and obj.__module__ == MAIN:
            # Its own reduction is a reference to a name that the node does not have yet.
            return functools.lru_cache(**obj.cache_parameters()), (obj.__wrapped__,)
        reduced = super().reducer_override(obj)
        if isinstance(obj, (type, FunctionType)):
            if reduced is not NotImplemented:
                self._note(obj)
            elif isinstance(module := getattr(obj, "__module__", None), str):
                self.modules.add(module)
        elif isinstance(obj, ModuleType):
            self.modules.add(obj.__name__)
        return reduced

    def _note(self, obj: Any) -> None:
        if isinstance(obj, FunctionType):
            self.functions.append(obj)
        name = obj.__name__
        if self._main.get(name) is obj and getattr(obj, "__qualname__", None) == name:
            self.found[name] = obj

    def _dynamic_function_reduce(self, func: FunctionType) -> tuple[Any, ...]:
        """Reduce a function that goes by value, giving it the right globals at the node."""
        name = func.__globals__.get("__name__", MAIN)
        module = sys.modules.get(name) if isinstance(name, str) else None
        if name == MAIN or func.__globals__ is self._main:
            self.globals_ref.setdefault(id(func.__globals__), self._main_namespace)
        elif module is not None and vars(module) is func.__globals__:
            self.modules.add(name)
            self.globals_ref.setdefault(id(func.__globals__), ModuleNamespace(module))
            make, arguments, (state, slots), *rest = super()._dynamic_function_reduce(func)
            # The module brings its globals itself; copies of them would overwrite what its import has made.
            return make, arguments, (state, {**slots, "__globals__": {}}), *rest
        reduced: tuple[Any, ...] = super()._dynamic_function_reduce(func)
        return reduced


class ArgumentPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles arguments so that `pickle.loads` can load them at a node that has the computation.

    Args:
        shipped: functions and classes of ``__main__`` that are in the bundle, by name.
        brought: tells whether a local module came along with the bundle.
    """

    def __init__(
        self, file: io.BytesIO, shipped: Mapping[str, object], brought: Callable[[str], bool]
    ) -> None:
        super().__init__(file, protocol=PROTOCOL)
        self._shipped = shipped
        self._brought = brought

    def reducer_override(self, obj: Any) -> Any:
        """Refer to what is at the node by name, and take along what is not."""
        if not isinstance(obj, (type, FunctionType)):
            return super().reducer_override(obj)
        module_name = getattr(obj, "__module__", None)
        path = getattr(obj, "__qualname__", "")
        if find(self._shipped, path) is obj:
            return self._refer(obj, path)
        module = sys.modules.get(module_name) if isinstance(module_name, str) else None
        if module is not None and is_local(module) and not self._brought(module.__name__):
            return self._by_value(obj)
        return super().reducer_override(obj)

    def _refer(self, obj: Any, path: str) -> Any:
        if obj.__module__ == MAIN and find(vars(sys.modules[MAIN]), path) is obj:
            return NotImplemented  # plain pickle's own reference
        # Made by `exec` in a namespace that is not sys.modules["__main__"] here, but is at the node.
        return operator.attrgetter(path), (sys.modules[MAIN],)

    def _by_value(self, obj: Any) -> Any:
        if isinstance(obj, FunctionType):
            return self._dynamic_function_reduce(obj)
        return reducers._dynamic_class_reduce(obj)


def find(names: Mapping[str, object], path: str) -> object:
    """Look up a dotted name; return None if it is not there."""
    first, *rest = path.split(".")
    value = names.get(first)
    for name in rest:
        value = getattr(value, name, None)
    return value


def can_pickle_code(value: object, main: Mapping[str, object]) -> BaseException | None:
    """Try to pickle part of a bundle; return what went wrong, or None."""
    return error_of(lambda: BundlePickler(io.BytesIO(), main).dump(value))


def error_of(attempt: Callable[[], object]) -> BaseException | None:
    """Call *attempt* and return the exception it raises; pickling runs code of users, which may raise anything."""
    try:
        attempt()
    except Exception as error:
        return error
    return None


def dump_arguments(value: object, shipped: Mapping[str, object], brought: Callable[[str], bool]) -> bytes:
    """Pickle arguments (see `ArgumentPickler`); raises whatever the objects' own code raises."""
    file = io.BytesIO()
    ArgumentPickler(file, shipped, brought).dump(value)
    return file.getvalue()
