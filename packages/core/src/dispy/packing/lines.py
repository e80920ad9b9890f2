"""Source lines of functions that go by value, so that tracebacks at nodes, and `inspect`, have them there, too.

Only the lines of these functions go along, not the rest of their files: that may hold what is nobody's business.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterable, Sequence
from types import FunctionType
from typing import Any

Lines = dict[str, list[tuple[int, str]]]
"""Name of a file as it stands in tracebacks -> number of the first line, and text, of each function in it."""


class LinesOf:
    """Unpickled, it is the `Lines` of functions; it must be pickled after them.

    Args:
        functions: a list that is complete by then.
    """

    def __init__(self, functions: Sequence[FunctionType]) -> None:
        self._functions = functions

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (lines_of(self._functions),)


def lines_of(functions: Iterable[FunctionType]) -> Lines:
    """Return the lines of functions, as far as Python finds them."""
    found: Lines = {}
    seen: set[tuple[str, int]] = set()
    ends: dict[str, dict[int, int]] = {}
    for function in functions:
        name, first = function.__code__.co_filename, function.__code__.co_firstlineno
        if (name, first) in seen:
            continue
        seen.add((name, first))
        lines = linecache.getlines(name, function.__globals__)
        if name not in ends:
            ends[name] = _ends("".join(lines))
        text = "".join(lines[first - 1 : ends[name].get(first, first)])
        if text:
            found.setdefault(name, []).append((first, text))
    return found


def _ends(text: str) -> dict[int, int]:
    """Return first line -> last line of the functions in a text; the outermost of those that begin in one line."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return {}  # the file has changed since it was imported
    ends: dict[int, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
            first = min(part.lineno for part in (node, *decorators))
            ends[first] = max(ends.get(first, 0), node.end_lineno or first)
    return ends
