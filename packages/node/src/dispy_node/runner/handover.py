"""What processes that are not forked need to know: the code, and what ``setup`` has made of the global variables.

Memory is not shared with such a process, so the variables are pickled, all together: those of ``__main__`` and of
the module in which ``setup`` stands, if setup has set or changed them. Modules go by name. What cannot be pickled
(locks, open files, shared memory), or is a function or class that setup itself has made, is left out, and whoever
misses it is told why. Nothing here is imported where jobs are forked.
"""

from __future__ import annotations

import functools
import importlib
import io
import pickle
import sys
import types

from dispy_node.runner.explain import brief

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PROTOCOL = 5
MISSING = object()


class NotGiven(Exception):
    """A value that jobs cannot be given; the message says why."""


class Memory:
    """The global variables of a computation, as they are before ``setup``.

    Args:
        setup: the function that is about to change them.

    Attributes:
        left: name -> why jobs do not have what setup has made of it; filled by `pack`.
    """

    def __init__(self, setup: Callable[..., object]) -> None:
        self._modules = {"__main__": sys.modules["__main__"].__dict__}
        namespace = _namespace_of(setup)
        name = namespace.get("__name__", "__main__")
        if name in sys.modules and sys.modules[name].__dict__ is namespace:
            self._modules[name] = namespace
        self._before = {name: dict(variables) for name, variables in self._modules.items()}
        self._pickled = {
            (module, name): self._pickle(value)
            for module, variables in self._before.items()
            for name, value in variables.items()
            if not _is_code(value)
        }
        self.left: dict[str, str] = {}

    def pack(self) -> bytes:
        """Pickle what has changed since."""
        changed = {module: self._changed(module) for module in self._modules}
        gone = {
            module: [name for name in before if name not in self._modules[module]]
            for module, before in self._before.items()
        }
        try:
            return self._dump((changed, gone))
        except Exception:
            # One of them is to blame at least: which?
            for variables in changed.values():
                for name, value in list(variables.items()):
                    try:
                        self._dump(value)
                    except Exception as error:
                        del variables[name]
                        self.left[name] = brief(error)
        return self._dump((changed, gone))

    def _changed(self, module: str) -> dict[str, Any]:
        before = self._before[module]
        found = {}
        for name, value in self._modules[module].items():
            old = before.get(name, MISSING)
            if old is value and (_is_code(value) or self._pickled[module, name] == self._pickle(value)):
                continue
            if isinstance(old, types.ModuleType) and _is_same_module(old, value):
                continue  # what stood for it has been replaced by itself, at its first use
            found[name] = value
        return found

    def _pickle(self, value: object) -> bytes | None:
        try:
            return self._dump(value)
        except Exception:
            # It cannot be compared then: taken as unchanged as long as it is the same object.
            return None

    def _dump(self, value: object) -> bytes:
        target = io.BytesIO()
        _Pickler(target, self._has).dump(value)
        return target.getvalue()

    def _has(self, module: str, qualified_name: str) -> bool:
        """Tell whether a fresh process finds what has this name."""
        if module not in self._modules:
            return True
        name = qualified_name.partition(".")[0]
        return self._before[module].get(name, MISSING) is self._modules[module].get(name)


class _Pickler(pickle.Pickler):
    """Pickles modules by name, and refuses what can be found in this process only."""

    def __init__(self, target: io.BytesIO, is_known: Callable[[str, str], bool]) -> None:
        super().__init__(target, PROTOCOL)
        self._is_known = is_known

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.ModuleType):
            if sys.modules.get(obj.__name__) is obj and getattr(obj, "__spec__", None) is not None:
                return importlib.import_module, (obj.__name__,)
            if type(obj) is types.ModuleType:
                raise NotGiven(f"module {obj.__name__!r} cannot be imported by name")
        elif isinstance(obj, type | types.FunctionType) and not self._is_known(
            obj.__module__, obj.__qualname__
        ):
            raise NotGiven(f"setup has defined {obj.__qualname__!r} itself: define it outside of setup")
        return NotImplemented


def restore(data: bytes) -> None:
    """Set the global variables that `Memory.pack` has packed.

    Raises:
        Exception: whatever it raises to unpickle them.
    """
    changed, gone = pickle.loads(data)
    for module, variables in changed.items():
        sys.modules[module].__dict__.update(variables)
    for module, names in gone.items():
        for name in names:
            sys.modules[module].__dict__.pop(name, None)


def _namespace_of(function: Any) -> dict[str, Any]:
    """Find the variables that are global in a function, or whatever else can be called."""
    while isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, "__globals__"):
        function = type(function).__call__
    namespace: dict[str, Any] = getattr(function, "__globals__", sys.modules["__main__"].__dict__)
    return namespace


def _is_code(value: object) -> bool:
    """Tell whether a value is what a fresh process makes as well, by loading the code."""
    return isinstance(value, types.ModuleType | types.FunctionType | type)


def _is_same_module(old: types.ModuleType, value: object) -> bool:
    return isinstance(value, types.ModuleType) and value.__name__ == old.__name__
