"""The code bundle becomes a callable.

A bundle is opaque to all but the client that made it and the runner. Its first byte tells its kind:

    P   a pickle of functions and classes by value, as cloudpickle makes it
    S   JSON with source texts, for clients whose Python has another bytecode
    R   one of the above follows, for clients that take results without pickle only

Either way everything lands in one namespace: the ``__dict__`` of a fresh module ``__main__``, so that arguments
that name classes of the client's main module find the ones that were shipped.
"""

from __future__ import annotations

import builtins
import io
import sys
import types

from dispy_node.runner.bare import Unpickler, parse_json
from dispy_node.runner.explain import brief
from dispy_node.runner.lines import remember, texts_of
from dispy_node.runner.rebuild import MODULE, REBUILDERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from dispy_node.runner.inside import Inside

PICKLED = b"P"
SOURCES = b"S"
SAFE_RESULTS = b"R"


class BadBundle(Exception):
    """The bundle is not what a client sends."""


class Computation:
    """What was shipped, loaded.

    Attributes:
        compute: what a job calls; None if jobs are runs of a program.
        setup: what is called before the first job, or None.
        cleanup: what is called after the last, or None.
        sources: file name as it stands in tracebacks -> source text, as far as it came along.
        safe_results: results are to be encoded without pickle.
        inside: what its jobs can do while they run; None for what is no job.
        lacking: global variables that setup has set and this process does not have, with the reason.
    """

    __slots__ = ("cleanup", "compute", "inside", "lacking", "safe_results", "setup", "sources")

    def __init__(
        self,
        compute: Any,
        sources: dict[str, str],
        *,
        setup: Callable[..., Any] | None = None,
        cleanup: Callable[..., Any] | None = None,
        safe_results: bool = False,
        inside: Inside | None = None,
    ) -> None:
        self.compute = compute
        self.setup = setup
        self.cleanup = cleanup
        self.sources = sources
        self.safe_results = safe_results
        self.inside = inside
        self.lacking: dict[str, str] = {}


def load(bundle: bytes, inside: Inside | None = None, *, is_program: bool = False) -> Computation:
    """Load a bundle; ``sys.modules["__main__"]`` is a fresh module afterwards, with the names of *inside*.

    Args:
        bundle: what the client made.
        is_program: there is nothing in it for jobs to call.

    Raises:
        BadBundle: it is none.
        BaseException: whatever the code in it, or a module that it imports, raises.
    """
    safe_results = bundle[:1] == SAFE_RESULTS
    if safe_results:
        bundle = bundle[1:]
    kind = bundle[:1]
    sources: dict[str, str] = {}
    if kind == PICKLED:
        shipped = _load_pickle(bundle, inside)
        sources = texts_of(shipped.get("lines") or {})
    elif kind == SOURCES:
        shipped, sources = _load_sources(bundle, inside)
    else:
        raise BadBundle(f"unknown kind of code bundle: {kind!r}")
    remember(sources)
    compute = shipped.get("compute")
    if not callable(compute) and not (is_program and compute is None):
        raise BadBundle(f"the computation is not callable but of type {type(compute).__name__}")
    return Computation(
        compute,
        sources,
        setup=shipped.get("setup"),
        cleanup=shipped.get("cleanup"),
        safe_results=safe_results,
        inside=inside,
    )


class Overlay:
    """Code that was loaded for one job, over that of the computation.

    Args:
        modules: names of the modules that there were before.
        finders: what found modules before.
    """

    def __init__(self) -> None:
        self._modules = set(sys.modules)
        self._finders = list(sys.meta_path)
        self._before: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def note(self, namespace: dict[str, Any]) -> dict[str, Any]:
        """Take note of what a namespace holds; give it back."""
        if not any(known is namespace for known, _ in self._before):
            self._before.append((namespace, dict(namespace)))
        return namespace

    def settle(self) -> None:
        """Take note of what was changed by loading; changes that come later are none of ours."""
        self._before = [
            (
                namespace,
                {
                    name: before.get(name, _ABSENT)
                    for name, value in namespace.items()
                    if before.get(name, _ABSENT) is not value
                },
            )
            for namespace, before in self._before
        ]

    def remove(self) -> None:
        """Put back what was there before."""
        for namespace, changed in self._before:
            for name, value in changed.items():
                if value is _ABSENT:
                    namespace.pop(name, None)
                else:
                    namespace[name] = value
        added = [finder for finder in sys.meta_path if finder not in self._finders]
        for finder in added:
            sys.meta_path.remove(finder)
        sources = {name for finder in added for name in getattr(finder, "sources", ())}
        for name in set(sys.modules) - self._modules:
            if name in sources or getattr(sys.modules[name], "__spec__", _ABSENT) is None:
                del sys.modules[name]


_ABSENT: Any = object()


def load_overlay(bundle: bytes, inside: Inside | None) -> Overlay:
    """Load a bundle for one job, over what is there; see `Overlay`.

    Raises:
        BadBundle, BaseException: as `load`.
    """
    overlay = Overlay()
    main = overlay.note(sys.modules["__main__"].__dict__)
    try:
        try:
            unpickler = _BundleUnpickler(
                bundle, main, inside, rebuilders=True, called=False, seen=overlay.note
            )
            content = unpickler.load()
        except (BadBundle, ImportError):
            raise
        except Exception:
            again = _BundleUnpickler(
                bundle, main, inside, rebuilders=False, called=unpickler.called, seen=overlay.note
            )
            content = again.load()
        main.update(content["names"])
        remember(texts_of(content.get("lines") or {}))
        overlay.settle()
    except BaseException:
        overlay.settle()
        overlay.remove()
        raise
    return overlay


def fresh_main(inside: Inside | None = None) -> dict[str, Any]:
    """Put a new module ``__main__`` in place, with the names of *inside*, and give its namespace."""
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    if inside is not None:
        main.__dict__.update(inside.names())
    sys.modules["__main__"] = main
    return main.__dict__


class _BundleUnpickler(Unpickler):
    """Knows where namespaces are, what to call, and, unless told otherwise, how to rebuild without cloudpickle.

    Attributes:
        called: it has called what the bundle wants to be called first.
    """

    def __init__(
        self,
        bundle: bytes,
        main: dict[str, Any],
        inside: Inside | None,
        *,
        rebuilders: bool,
        called: bool,
        seen: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(io.BytesIO(memoryview(bundle)[1:]))
        self._main = main
        self._inside = inside
        self._rebuilders = REBUILDERS if rebuilders else {}
        self.called = called
        self._seen = seen

    def persistent_load(self, pid: Any) -> object:
        try:
            kind, name = pid
        except (TypeError, ValueError):
            kind, name = pid, ""
        if kind == "call" and callable(name):
            if not self.called:
                self.called = True
                _call_first(name)
            return None
        if kind != "namespace" or not isinstance(name, str):
            raise BadBundle(f"unknown reference in the code bundle: {pid!r}")
        if name == "__main__":
            return self._main
        if name not in sys.modules:
            module = sys.modules[name] = types.ModuleType(name)
            if self._inside is not None:
                module.__dict__.update(self._inside.names())
        namespace = sys.modules[name].__dict__
        return namespace if self._seen is None else self._seen(namespace)

    def find_class(self, module: str, name: str) -> Any:
        if module == MODULE and name in self._rebuilders:
            return self._rebuilders[name]
        return super().find_class(module, name)


def _call_first(function: Callable[[], object]) -> None:
    try:
        function()
    except ImportError:
        raise
    except Exception as error:
        # Not as it is, or loading would be tried again by other means.
        raise BadBundle(f"init_depends has failed: {brief(error)}") from error


def _load_pickle(bundle: bytes, inside: Inside | None) -> dict[str, Any]:
    main = fresh_main(inside)
    unpickler = _BundleUnpickler(bundle, main, inside, rebuilders=True, called=False)
    try:
        content = unpickler.load()
    except (BadBundle, ImportError):
        raise
    except Exception:
        # Perhaps ours cannot rebuild it and cloudpickle can: what it raises is what counts. The namespace is made
        # anew, because the first attempt may have left half of it; but not if user code has set something up there.
        if not unpickler.called:
            main = fresh_main(inside)
        content = _BundleUnpickler(bundle, main, inside, rebuilders=False, called=unpickler.called).load()
    if not isinstance(content, dict) or "compute" not in content:
        raise BadBundle("the code bundle has no computation")
    main.update(content.get("names") or {})
    return content


def _load_sources(bundle: bytes, inside: Inside | None) -> tuple[dict[str, Any], dict[str, str]]:
    content = parse_json(bundle[1:].decode("utf-8", "surrogatepass"))
    if not isinstance(content, dict) or "sources" not in content or "compute" not in content:
        raise BadBundle("the code bundle has no computation")
    main = fresh_main(inside)
    sources: dict[str, str] = {}
    for source in content["sources"]:
        text, name = source["text"], source["name"]
        sources[name] = _overlay(sources[name], text) if name in sources else text
        exec(compile(text, name, "exec", dont_inherit=True), main)
    shipped: dict[str, Any] = {}
    for role in ("compute", "setup", "cleanup"):
        name = content.get(role)
        if name is not None and name not in main:
            raise BadBundle(f"the code bundle does not define {name!r}")
        shipped[role] = None if name is None else main[name]
    return shipped, sources


def _overlay(first: str, second: str) -> str:
    """Join two pieces of one file, each of which has empty lines in place of what belongs to the other."""
    lines, others = first.split("\n"), second.split("\n")  # as the compiler counts, see `call`
    lines += [""] * (len(others) - len(lines))
    return "\n".join([line or other for line, other in zip(lines, others + [""] * len(lines), strict=False)])
