"""Source lines that came along with code: they stand in tracebacks, and `inspect` finds them.

They are kept where Python keeps lines of files, in the cache of `linecache`. To import that, and what it imports,
would make every fork dearer; so they are put there when a job imports it.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

NAME = "linecache"
GAP = "..."
"""Stands behind each piece, so that `inspect` does not take the next one, which may be indented, for a part of it."""


def texts_of(lines: Mapping[str, Sequence[tuple[int, str]]]) -> dict[str, str]:
    """Give the text of each file, in which lines that did not come along are empty.

    Args:
        lines: name of a file -> number of the first line, and text, of each piece.
    """
    texts = {}
    for name, pieces in lines.items():
        rows: dict[int, str] = {}
        for first, text in pieces:
            # As the compiler counts, see `cache`.
            rows |= enumerate(text.removesuffix("\n").split("\n"), first)
        for number in list(rows):
            rows.setdefault(number + 1, GAP)
        texts[name] = "\n".join(rows.get(number, "") for number in range(1, max(rows, default=0) + 1))
    return texts


def remember(texts: Mapping[str, str]) -> None:
    """Have `linecache` give these texts for files of these names, now or when it is imported."""
    if NAME in sys.modules:
        cache(sys.modules[NAME], texts)
    elif texts:
        sys.meta_path.insert(0, _Hook(texts))


def cache(linecache: Any, texts: Mapping[str, str]) -> None:
    """Put texts into the cache."""
    for name, text in texts.items():
        # Not `splitlines`: to the compiler a form feed begins no new line.
        lines = [line + "\n" for line in text.split("\n")]
        linecache.cache[name] = (len(text), None, lines, name)


class _Hook:
    """Finds and loads `linecache` as others do, and fills its cache."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts
        self._loader: Any = None

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != NAME:
            return None
        sys.meta_path.remove(self)
        for finder in list(sys.meta_path):
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                self._loader = spec.loader
                spec.loader = self  # type: ignore[assignment]
                return spec
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        cache(module, self._texts)
