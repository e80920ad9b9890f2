"""How functions, classes and modules are pickled, for bundles and for arguments.

What belongs to ``__main__`` (scripts, notebooks, ``-c``, the interactive prompt) or to a local module goes by
value, as cloudpickle does it, together with the globals that it uses, and gets its name in a namespace at the
node. Local modules that are wanted as a whole, and what is installed, go by reference. This module imports
cloudpickle: import it only when something is to be pickled.
"""

from __future__ import annotations

import functools
import importlib
import io
import operator
import pickle
import sys
import threading
from collections.abc import Callable, Mapping
from types import FunctionType, MemberDescriptorType, ModuleType
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import cloudpickle.cloudpickle as reducers  # type: ignore[import-untyped]

from dispy.packing.modules import MAIN, MAINS, SPAWNED_MAIN, is_local
from dispy.packing.sharing import Collection

PROTOCOL = 5
"""Pickle protocol: the newest that every supported Python has."""

CASTABLE = frozenset("cbB?hHiIlLqQfd")
"""Formats of memoryviews that can be made of bytes."""

Names = dict[str, dict[str, object]]
"""Module -> name -> function or class."""


class Namespace:
    """Stands in a bundle for the globals of functions: at the node, those of a module that is made for them."""

    def __init__(self, module: str) -> None:
        self.module = module


class Filling:
    """Unpickled, it gives names to what is in a namespace; its value is None."""

    def __init__(self, namespace: Namespace, names: Mapping[str, object]) -> None:
        self.namespace = namespace
        self.names = dict(names)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict.update, (self.namespace, self.names)


class ModuleGlobals:
    """Stands for the globals of functions that live in a module but cannot be found there by name.

    So that a closure made by a module shares that module's globals at the node, rather than having copies.
    """

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.module, "__dict__")


class Installation:
    """Unpickled, it makes modules importable; its value is None."""

    def __init__(self, text: str, sources: Mapping[str, Any]) -> None:
        self.text = text
        self.sources = dict(sources)

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.text, {"SOURCES": self.sources, "__name__": "dispy_sources"})


class FirstCall:
    """Unpickled, it calls a function without arguments; its value is what that returns.

    A persistent reference rather than a reduction, so that the runner can see to it that it is called once.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self.function = function


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
        is_whole: tells whether a local module goes as a whole, so that all in it is found there by name.
        known: functions and classes that are at the node already, known by name.

    Attributes:
        found: what was pickled by value and is known by name, by module.
        modules: names of the modules that were referred to; local ones among them must go as a whole.
        functions: every function that was pickled by value.
    """

    def __init__(
        self,
        file: io.BytesIO,
        main: Mapping[str, object],
        is_whole: Callable[[str], bool],
        known: Names | None = None,
    ) -> None:
        super().__init__(file, protocol=PROTOCOL)
        self._main = main
        self._known = known or {}
        self._is_whole = is_whole
        self._namespaces: dict[str, Namespace] = {}
        self.found: Names = {}
        self.modules: set[str] = set()
        self.functions: list[FunctionType] = []

    def persistent_id(self, obj: object) -> tuple[str, object] | None:
        """Name a namespace at the node, rather than pickle its present contents; name what is to be called."""
        if type(obj) is Namespace:
            return "namespace", obj.module
        return ("call", obj.function) if type(obj) is FirstCall else None

    def reducer_override(self, obj: Any) -> Any:
        """Reduce functions, classes and modules, and note them."""
        if type(obj) is functools.cached_property:
            return reduce_cached_property(obj)
        if self._known and isinstance(obj, (type, FunctionType)):
            module, (top, _, inner) = known_as(obj.__module__), obj.__qualname__.partition(".")
            if find(self._known.get(module, {}), obj.__qualname__) is obj:
                if inner:
                    return operator.attrgetter(inner), (self._known[module][top],)
                return operator.getitem, (self.namespace(module), top)
        if isinstance(obj, functools._lru_cache_wrapper) and self._stays_here(obj.__module__):
            # Its own reduction is a reference to a name that the node does not have yet.
            return functools.lru_cache(**obj.cache_parameters()), (obj.__wrapped__,)
        if isinstance(obj, (type, FunctionType)):
            if self._stays_here(obj.__module__):
                reduced = by_value(self, obj)
            else:
                reduced = _with_slots(obj, super().reducer_override(obj))
            self._note(obj, is_reference=reduced is NotImplemented)
            return reduced
        if isinstance(obj, ModuleType):
            if obj.__name__ == SPAWNED_MAIN:
                return importlib.import_module, (MAIN,)
            self.modules.add(obj.__name__)
        return super().reducer_override(obj)

    def _stays_here(self, module: object) -> bool:
        """Tell whether what is in a module is not found by name at the node."""
        if module in MAINS:
            return True
        return isinstance(module, str) and is_local(sys.modules.get(module)) and not self._is_whole(module)

    def _note(self, obj: Any, *, is_reference: bool) -> None:
        module, name = known_as(obj.__module__), obj.__name__
        if is_reference:
            self.modules.add(module)
            return
        if isinstance(obj, FunctionType):
            self.functions.append(obj)
        names = self._main if module == MAIN else vars(sys.modules.get(module, object))
        if obj.__qualname__ == name and names.get(name) is obj:
            self.found.setdefault(module, {})[name] = obj

    def _dynamic_function_reduce(self, func: FunctionType) -> tuple[Any, ...]:
        """Reduce a function that goes by value, giving it the right globals at the node."""
        name = known_as(func.__globals__.get("__name__", MAIN))
        module = sys.modules.get(name) if isinstance(name, str) else None
        if name == MAIN or func.__globals__ is self._main:
            self.globals_ref.setdefault(id(func.__globals__), self.namespace(MAIN))
        elif module is not None and vars(module) is func.__globals__:
            if self._stays_here(name):
                self.globals_ref.setdefault(id(func.__globals__), self.namespace(name))
            else:
                return self._reduce_within(module, func)
        reduced: tuple[Any, ...] = super()._dynamic_function_reduce(func)
        return reduced

    def _reduce_within(self, module: ModuleType, func: FunctionType) -> tuple[Any, ...]:
        self.modules.add(module.__name__)
        self.globals_ref.setdefault(id(func.__globals__), ModuleGlobals(module))
        make, arguments, (state, slots), *rest = super()._dynamic_function_reduce(func)
        # The module brings its globals itself; copies of them would overwrite what its import has made.
        return make, arguments, (state, {**slots, "__globals__": {}}), *rest

    def namespace(self, module: str) -> Namespace:
        """Return what stands for the namespace of a module at the node."""
        return self._namespaces.setdefault(module, Namespace(module))


class ArgumentPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles arguments so that `pickle.loads` can load them at a node that has the computation.

    Args:
        shipped: functions and classes that are in the bundle and known by name at the node.
        is_whole: tells whether a local module came along as a whole.
        buffer_callback: as that of `pickle.Pickler`.
    """

    def __init__(
        self,
        file: Any,
        shipped: Names,
        is_whole: Callable[[str], bool],
        buffer_callback: Callable[[Any], bool] | None = None,
    ) -> None:
        super().__init__(file, protocol=PROTOCOL, buffer_callback=buffer_callback)
        self._shipped = shipped
        self._is_whole = is_whole

    def reducer_override(self, obj: Any) -> Any:
        """Refer to what is at the node by name, and take along what is not."""
        if isinstance(obj, ModuleType) and obj.__name__ == SPAWNED_MAIN:
            return importlib.import_module, (MAIN,)
        if not isinstance(obj, (type, FunctionType)):
            if type(obj) is functools.cached_property:
                return reduce_cached_property(obj)
            return super().reducer_override(obj)
        module, path = known_as(obj.__module__), obj.__qualname__
        if find(self._shipped.get(module, {}), path) is obj:
            if module == obj.__module__ and find(vars(sys.modules[module]), path) is obj:
                return NotImplemented  # plain pickle's own reference
            # Made by `exec` in a namespace that is not sys.modules["__main__"] here, but is at the node; or in a
            # spawned child, where plain pickle's reference would have a name that the node does not know.
            return operator.attrgetter(path), (sys.modules[module],)
        if obj.__module__ == SPAWNED_MAIN:
            return by_value(self, obj)
        if is_local(sys.modules.get(module)) and not self._is_whole(module):
            return by_value(self, obj)
        return _with_slots(obj, super().reducer_override(obj))


class KeepingPickler(ArgumentPickler):
    """Does the same for what is kept for many jobs: a memoryview stays one, so that they can share its bytes."""

    def reducer_override(self, obj: Any) -> Any:
        """Hand over the buffer of a memoryview, which cloudpickle would copy into bytes."""
        if type(obj) is not memoryview or not obj.c_contiguous or obj.format not in CASTABLE or not obj.ndim:
            return super().reducer_override(obj)
        if (obj.format, obj.ndim) == ("B", 1):
            return memoryview, (pickle.PickleBuffer(obj),)
        return operator.methodcaller("cast", obj.format, obj.shape), (obj.cast("B"),)


class SharingPickler(ArgumentPickler):
    """Does the same, and refers to shared data.

    Args:
        collection: takes what is shared.
    """

    def __init__(
        self, file: Any, shipped: Names, is_whole: Callable[[str], bool], collection: Collection
    ) -> None:
        super().__init__(file, shipped, is_whole, collection.take_buffer)
        self._reference = collection.reference

    def persistent_id(self, obj: object) -> object:
        """Name shared data."""
        return self._reference(obj)


class ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles by value what has no name elsewhere: functions and classes that a job has made."""

    def reducer_override(self, obj: Any) -> Any:
        """Reduce what cloudpickle alone gets wrong."""
        if type(obj) is functools.cached_property:
            return reduce_cached_property(obj)
        return _with_slots(obj, super().reducer_override(obj))


def dump_by_value(value: object) -> bytes:
    """Pickle what a job has made (see `ValuePickler`); raises whatever the objects' own code raises."""
    file = io.BytesIO()
    ValuePickler(file, protocol=PROTOCOL).dump(value)
    return file.getvalue()


def by_value(pickler: Any, obj: Any) -> Any:
    """Reduce a function or class so that it needs no module at the node."""
    if isinstance(obj, FunctionType):
        reduced = pickler._dynamic_function_reduce(obj)
    else:
        reduced = _with_slots(obj, reducers._dynamic_class_reduce(obj))
    return _in_main(reduced) if obj.__module__ == SPAWNED_MAIN else reduced


def reduce_cached_property(cached: functools.cached_property[Any]) -> tuple[Any, ...]:
    """Reduce it without the lock that it has in Python 3.11."""
    state = {name: value for name, value in vars(cached).items() if name not in ("func", "lock")}
    return functools.cached_property, (cached.func,), state


_LOCKS: dict[type, Callable[[], object]] = {
    type(threading.Lock()): threading.Lock,
    type(threading.RLock()): threading.RLock,
}


class _Anew:
    """Stands for a lock among the attributes of a class: it is made anew, and so free, as no thread there holds it."""

    def __init__(self, lock: object) -> None:
        self._make = _LOCKS[type(lock)]

    def __reduce__(self) -> tuple[Any, ...]:
        return self._make, ()


def _with_slots(cls: Any, reduced: Any) -> Any:
    """Have slots made together with a class, if one is reduced: added to it later, they would be no slots any more."""
    if type(reduced) is not tuple or reduced[0] not in (
        reducers._make_skeleton_class,
        reducers._make_skeleton_enum,
    ):
        return reduced
    make, arguments, (attributes, slot_state), *rest = reduced
    attributes.pop("__slotnames__", None)  # a cache of `copyreg`
    for name, value in attributes.items():
        if type(value) in _LOCKS:
            attributes[name] = _Anew(value)
    slots = attributes.pop("__slots__", None)
    if slots is None or make is not reducers._make_skeleton_class:
        return make, arguments, (attributes, slot_state), *rest
    members = [
        name
        for name, value in vars(cls).items()
        if isinstance(value, MemberDescriptorType) and value.__objclass__ is cls
    ]
    for name in members:
        attributes.pop(name, None)
    if not isinstance(slots, (str, tuple, list, dict)):  # perhaps an iterator, which is used up
        slots = tuple(members + [name for name in ("__dict__", "__weakref__") if name in vars(cls)])
    constructor, name, bases, options, *others = arguments
    return (
        make,
        (constructor, name, bases, options | {"__slots__": slots}, *others),
        (attributes, slot_state),
        *rest,
    )


def known_as(module: Any) -> Any:
    """Return the name that a module has at nodes; whatever is no name of a module stays as it is."""
    return MAIN if module == SPAWNED_MAIN else module


def _in_main(reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """Let a function or class of a spawned child's main module belong to ``__main__``, so that results can name it."""
    make, arguments, state, *rest = reduced
    return make, _renamed(arguments), _renamed(state), *rest


def _renamed(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    # cloudpickle tells the module as an argument of its own, or in a dict of attributes or globals.
    return tuple(map(_renamed_part, parts))


def _renamed_part(part: Any) -> Any:
    if type(part) is str:
        return known_as(part)
    if type(part) is dict and part.get("__name__") == SPAWNED_MAIN:
        part["__name__"] = MAIN  # in place: all functions of the pickle share these globals
    if type(part) is dict and part.get("__module__") == SPAWNED_MAIN:
        return {**part, "__module__": MAIN}
    return part


def find(names: Mapping[str, object], path: str) -> object:
    """Look up a dotted name; return None if it is not there."""
    first, *rest = path.split(".")
    value = names.get(first)
    for name in rest:
        value = getattr(value, name, None)
    return value


def error_of(attempt: Callable[[], object]) -> BaseException | None:
    """Call *attempt* and return the exception it raises; pickling runs code of users, which may raise anything."""
    try:
        attempt()
    except Exception as error:
        return error
    return None


def dump_arguments(
    value: object, shipped: Names, is_whole: Callable[[str], bool], collection: Collection | None = None
) -> bytes:
    """Pickle arguments (see `ArgumentPickler`); raises whatever the objects' own code raises.

    Args:
        collection: takes what is shared; None if there is to be no such thing.
    """
    file = io.BytesIO()
    if collection is None:
        ArgumentPickler(file, shipped, is_whole).dump(value)
    else:
        SharingPickler(file, shipped, is_whole, collection).dump(value)
    return file.getvalue()
