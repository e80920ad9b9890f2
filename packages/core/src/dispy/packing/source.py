"""Source bundles: a computation as text, for nodes with another version of Python.

A function can go as text if it stands at the top of its file or cell, or in another function of which it uses no
variables. What it refers to goes along: functions and classes as text, modules as imports, other globals as
literals or pickles (which do not depend on the version, as long as they refer to classes by name).
"""

from __future__ import annotations
import __future__

import ast
import functools
import inspect
import io
import json
import pickle
import symtable
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any

from dispy.packing.importer import ModuleText
from dispy.packing.modules import MAIN, MAINS, SPAWNED_MAIN, loading_text
from dispy.packing.pickler import PROTOCOL, ByName

COMPUTE = "_dispy_compute"
"""Name, in the node's namespace, of what is called."""

PREPARED = {"setup": "_dispy_setup", "cleanup": "_dispy_cleanup"}
"""Names there of what is called before the first job and after the last."""

FIRST = "_dispy_init"
"""Name there of what is called before anything else is defined."""

PLAIN = (bool, int, str, bytes, type(None))
"""Types of values that are written as literals."""


class SourceUnavailable(Exception):
    """Something has no source text that would do; the message says what and why."""


Place = tuple[str, int, int]
"""Where a piece of text belongs: file, line, and its number among those that belong there."""

HEAD: Place = ("", 0, 0)
"""Before everything else."""


@dataclass(frozen=True, slots=True)
class _Definition:
    """The statement that makes a function or class."""

    name: str
    place: Place
    text: str


def source_bundle(
    target: object,
    names: Mapping[str, object],
    modules: Mapping[str, ModuleText],
    prepared: Mapping[str, object] = MappingProxyType({}),
    first: object = None,
) -> bytes:
    """Make the source bundle of what calls *target* and needs *names* and the local *modules*.

    Args:
        target: what is called, or None if there are only *prepared* functions.
        prepared: "setup" and "cleanup", as far as they are there.
        first: what is called before anything that it does not need itself is defined, or None.

    Raises:
        SourceUnavailable: something has no source text that would do.
    """
    walk = _Walk()
    pieces: list[tuple[Place, str]] = []
    if first is not None:
        walk.need(FIRST, first)
        pieces = [*sorted(walk.pieces), (HEAD, f"{FIRST}()")]
        walk.pieces.clear()
    for name, value in names.items():
        walk.need(name, value)
    wanted = {PREPARED[role]: function for role, function in prepared.items()}
    if target is not None:
        wanted[COMPUTE] = target
    for name, value in wanted.items():
        walk.need(name, value)
    pieces += sorted(walk.pieces)
    sources = [{"text": text, "name": place[0] or "<dispy>"} for place, text in pieces]
    if modules:
        loading = f"exec({loading_text()!r}, {{'SOURCES': {dict(modules)!r}, '__name__': 'dispy_sources'}})"
        sources.insert(0, {"text": loading, "name": "<dispy>"})
    called = {role: PREPARED[role] for role in prepared}
    return (
        b"S"
        + json.dumps(
            {"sources": sources, "compute": COMPUTE if target is not None else None} | called
        ).encode()
    )


class _Walk:
    """Visits everything that a computation refers to.

    Attributes:
        pieces: texts, each with the place by which they are to be sorted: a file has run once in the order of its
            lines, so it can again.
    """

    def __init__(self) -> None:
        self.pieces: list[tuple[Place, str]] = []
        self._names: dict[str, object] = {}
        self._places: dict[str, Place] = {}
        """Name -> where the text is that makes it."""
        self._definitions: dict[int, _Definition] = {}

    def need(self, name: str, value: Any) -> None:
        """See to it that *value* has this name at the node."""
        if not self._claim(name, value):
            return
        if isinstance(value, ModuleType):
            self._add(name, f"import {value.__name__} as {name}")
        elif isinstance(value, functools.partial):
            self._need_partial(name, value)
        elif isinstance(value, ByName):
            self.need(f"{name}_owner", value.owner)
            self._add(name, f"{name} = {name}_owner.{value.name}", f"{name}_owner")
        elif not _is_definition(value):
            self._assign(name, value)
        elif value.__module__ in MAINS:
            self._define(name, value)
        elif _is_importable(value):
            self._add(name, f"from {value.__module__} import {value.__qualname__} as {name}")
        else:
            self._assign(name, value)

    def _claim(self, name: str, value: object) -> bool:
        """Reserve a name; return whether it was free."""
        if name not in self._names:
            self._names[name] = value
            return True
        if self._names[name] is not value:
            raise SourceUnavailable(f"two different things are called {name!r}")
        return False

    def _add(self, name: str, text: str, *needed: str) -> None:
        """Take a text that makes *name*, to come after what makes the names *needed*."""
        file, line, _ = max((self._places.get(used, HEAD) for used in needed), default=HEAD)
        self._places[name] = file, line, len(self.pieces) + 1
        self.pieces.append((self._places[name], text))

    def _need_partial(self, name: str, value: functools.partial[Any]) -> None:
        function, arguments = f"{name}_function", f"{name}_arguments"
        self.need(function, value.func)
        self._assign(arguments, (value.args, value.keywords))
        call = f"__import__('functools').partial({function}, *{arguments}[0], **{arguments}[1])"
        self._add(name, f"{name} = {call}", function, arguments)

    def _assign(self, name: str, value: object) -> None:
        if type(value) in PLAIN:
            self._add(name, f"{name} = {value!r}")
            return
        try:
            data = pickle.dumps(value, PROTOCOL)
        except Exception as error:  # the value's own code may raise anything
            raise SourceUnavailable(f"{name!r} is neither text nor can it be pickled ({error})") from error
        classes = _names_in_pickle(data) if any(main.encode() in data for main in MAINS) else {}
        for used, found in classes.items():
            self.need(used, found)
        load = f"{name} = __import__('pickle').loads({data!r})"
        if SPAWNED_MAIN.encode() in data:  # that is how the pickle calls what is in __main__ at the node
            modules = "__import__('sys').modules"
            load = f"{modules}[{SPAWNED_MAIN!r}] = {modules}[{MAIN!r}]; {load}"
        self._add(name, load, *classes)

    def _define(self, name: str, value: Any) -> None:
        plain = inspect.unwrap(value) if hasattr(value, "__wrapped__") else value
        definition = self._definitions.get(id(plain))
        if definition is None:
            namespace = _namespace_of(plain)
            definition = _definition_of(plain, namespace, decorated=plain is not value)
            self._definitions[id(plain)] = definition
            if definition.name != name:
                self._claim(definition.name, value)
            self._places[definition.name] = definition.place
            self.pieces.append((definition.place, definition.text))
            for used in sorted(_globals_used(definition)):
                if used != definition.name and used in namespace:
                    self.need(used, namespace[used])
        if definition.name != name:
            self._add(name, f"{name} = {definition.name}", definition.name)


def _is_definition(value: Any) -> bool:
    """Tell whether *value* is a function or class, or a function that is wrapped in something callable."""
    return isinstance(value, (type, FunctionType)) or isinstance(
        getattr(value, "__wrapped__", None), FunctionType
    )


def _is_importable(value: Any) -> bool:
    """Tell whether *value* can be imported by its own name."""
    return getattr(sys.modules.get(value.__module__), value.__qualname__, None) is value


class _ReferenceFinder(pickle.Unpickler):
    """Loads a pickle made in this process, to see which names of ``__main__`` it refers to."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.names: dict[str, object] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Note the name, and look it up."""
        if module in MAINS:
            top = name.partition(".")[0]
            self.names[top] = super().find_class(module, top)
        return super().find_class(module, name)


def _names_in_pickle(data: bytes) -> dict[str, object]:
    finder = _ReferenceFinder(data)
    finder.load()
    return finder.names


def _namespace_of(value: Any) -> Mapping[str, object]:
    if isinstance(value, FunctionType):
        return value.__globals__
    module = inspect.getmodule(value)
    return {} if module is None else vars(module)


def _definition_of(value: Any, namespace: Mapping[str, object], *, decorated: bool) -> _Definition:
    """Return the statement that makes a function or class of ``__main__``."""
    label = value.__qualname__
    if isinstance(value, FunctionType) and value.__code__.co_freevars:
        used = ", ".join(value.__code__.co_freevars)
        raise SourceUnavailable(f"{label!r} uses variables of the function around it ({used})")
    try:
        lines, line = inspect.getsourcelines(value)
        file = inspect.getsourcefile(value) or "<unknown>"
    except (OSError, TypeError) as error:
        raise SourceUnavailable(f"{label!r} has no source text ({error})") from error
    text = textwrap.dedent("".join(lines))
    name = _defined_name(text, value, decorated=decorated)
    # Empty lines before it, so that line numbers in tracebacks are those of the file; an import from __future__
    # in the file, without which annotations would be evaluated, finds room there.
    postponed = namespace.get("annotations") is __future__.annotations
    head = "from __future__ import annotations\n" if postponed else "\n"
    return _Definition(name, (file, line, 0), head + "\n" * (line - 2) + text if line > 1 else text)


def _defined_name(text: str, value: Any, *, decorated: bool) -> str:
    """Return the name that executing *text* gives to *value*."""
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        raise SourceUnavailable(f"the source text of {value.__qualname__!r} cannot stand alone") from error
    match body:
        case [ast.FunctionDef(name=name, decorator_list=decorators)] if name == value.__name__:
            if decorated and not decorators:
                raise SourceUnavailable(f"{value.__qualname__!r} is wrapped by a call, not by a decorator")
            return name
        case [ast.ClassDef(name=name)] if name == value.__name__:
            return name
        case [ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda())]:
            return name
    raise SourceUnavailable(f"{value.__qualname__!r} is not made by a def or class statement of its own")


def _globals_used(definition: _Definition) -> set[str]:
    """Return the global names that a definition mentions, also in decorators, base classes and defaults."""
    top = symtable.symtable(definition.text, definition.place[0], "exec")
    names = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced()}
    tables = list(top.get_children())
    while tables:
        table = tables.pop()
        names |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
        tables += table.get_children()
    return names
