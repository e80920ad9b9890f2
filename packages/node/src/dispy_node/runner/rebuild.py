"""Functions and classes out of a cloudpickle, without cloudpickle.

A cloudpickle names a handful of functions of ``cloudpickle.cloudpickle`` that rebuild what it describes. Importing
that module takes 20 ms and 4 MB, which doubles the cost of every fork that follows. So the runner brings its own
for what nearly every computation consists of: plain functions, closures, classes, modules. A bundle with
anything else (enumerations, abstract classes, type variables) gets the real module, and so does one that fails
here, because the real module may have changed its mind about its arguments.
"""

from __future__ import annotations

import builtins
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

MODULE = "cloudpickle.cloudpickle"


class NotPlain(Exception):
    """This needs cloudpickle itself."""


def make_function(
    code: types.CodeType,
    namespace: dict[str, Any],
    name: str | None,
    defaults: tuple[Any, ...] | None,
    closure: tuple[types.CellType, ...] | None,
) -> types.FunctionType:
    """Make a function whose attributes follow later, by `fill_function`."""
    namespace.setdefault("__builtins__", builtins)
    return types.FunctionType(code, namespace, name, defaults, closure)


def fill_function(function: types.FunctionType, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Give a function its attributes, the globals that it uses, and what its closure holds."""
    attributes, slots = state
    function.__dict__.update(attributes)
    for name, value in slots.items():
        if name == "__globals__":
            function.__globals__.update(value)
        elif name == "__closure__":
            for cell, filled in zip(function.__closure__ or (), value or (), strict=True):
                copy_cell(filled, cell)
        elif name != "_cloudpickle_submodules":  # named only so that they have been imported by now
            setattr(function, name, value)


def copy_cell(source: types.CellType, target: types.CellType) -> None:
    """Make a variable of a closure hold what another holds; both may be unset."""
    if source is target:
        return
    try:
        target.cell_contents = source.cell_contents
    except ValueError:
        # The variable has no value yet, which is legal: a nested function may be defined before what it uses.
        return


def make_cell(*content: object) -> types.CellType:
    """Make a variable of a closure, set or unset."""
    return types.CellType(*content)


def builtin_type(name: str) -> object:
    """Find a type that has no public name of its own, such as that of code objects."""
    return getattr(types, name)


def import_module(name: str) -> types.ModuleType:
    """Import a module and give the one named, also when it lies in a package."""
    __import__(name)
    return sys.modules[name]


def make_class(
    metaclass: type,
    name: str,
    bases: tuple[type, ...],
    options: dict[str, Any],
    tracker: object,
    extra: object,
) -> type:
    """Make a class whose attributes follow later, by `fill_class`."""
    del tracker, extra  # of use only where the same class comes in several pickles; here is only one
    if metaclass is not type:
        raise NotPlain(f"metaclass {metaclass.__name__}")
    return types.new_class(name, bases, {"metaclass": metaclass}, lambda space: space.update(options))


def fill_class(created: type, state: tuple[dict[str, Any], dict[str, Any]]) -> type:
    """Give a class its attributes."""
    attributes, _ = state
    if "_abc_impl" in attributes:
        raise NotPlain("abstract class")
    for name, value in attributes.items():
        setattr(created, name, value)
    if "__firstlineno__" in attributes:  # Python 3.13 forgets it whenever another attribute is set
        created.__firstlineno__ = attributes["__firstlineno__"]  # type: ignore[attr-defined]
    return created


REBUILDERS: Mapping[str, Callable[..., object]] = {
    "_make_function": make_function,
    "_function_setstate": fill_function,
    "_make_empty_cell": make_cell,
    "_make_cell": make_cell,
    "_builtin_type": builtin_type,
    "subimport": import_module,
    "_make_skeleton_class": make_class,
    "_class_setstate": fill_class,
}
"""Name in `MODULE` -> what stands in for it."""
