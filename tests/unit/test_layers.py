"""Who may import whom: read from the imports of the source, those inside functions too (docs/architecture.md)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "packages" / "core" / "src" / "dispy"

# Lowest first. A module imports from its own layer and those below it.
LAYERS = [
    {"errors", "model"},
    {"interfaces", "discovery"},
    {"wire", "config", "logger", "private", "parents", "argv", "places", "printable", "sizes"},
    {"engine"},
    {"packing"},
    {"hookspecs", "plugins", "plugged", "offers", "builtin"},
    {"runtime"},
    {
        "job",
        "inside",
        "partials",
        "live",
        "logs",
        "status",
        "nodes",
        "allotment",
        "management",
        "limits",
        "demands",
        "options",
        "cluster",
        "__init__",
    },
]
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}

# Folders of code that is the same in production, in the simulator and under Hypothesis: bytes, time and randomness
# are arguments there.
WITHOUT_IO = [
    CORE / "wire",
    CORE / "engine",
    ROOT / "packages/node/src/dispy_node/engine",
    ROOT / "packages/discovery-udp/src/dispy_discovery_udp/engine",
]
IO_MODULES = {
    "asyncio",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "select",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "trio",
}


def imports_of(module: Path) -> Iterator[str]:
    """Give the dotted names that a module imports when it runs, not those that only a type checker sees."""
    waiting: list[ast.AST] = [ast.parse(module.read_text())]
    while waiting:
        node = waiting.pop()
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=orelse):
                waiting += orelse
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(origin), names=names, level=0):
                yield origin
                yield from (f"{origin}.{alias.name}" for alias in names)
            case ast.ImportFrom():
                pytest.fail(f"{module}: line {node.lineno}: imports are absolute here")
            case _:
                waiting += ast.iter_child_nodes(node)


def layer_name(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


CORE_MODULES = sorted(CORE.rglob("*.py"))
PURE_MODULES = sorted(path for folder in WITHOUT_IO for path in folder.rglob("*.py"))


@pytest.mark.parametrize("module", CORE_MODULES, ids=[str(path.relative_to(CORE)) for path in CORE_MODULES])
def test_core_module_imports_lower_layers_only(module: Path) -> None:
    own = LEVELS.get(layer_name(module))
    assert own is not None, "give this module a place in LAYERS, and in docs/architecture.md"
    for name in imports_of(module):
        parts = name.split(".")
        if parts[0] != "dispy" or len(parts) == 1:
            assert not parts[0].startswith("dispy_"), f"{name}: the core imports no plugin"
            continue
        if parts[1] in LEVELS:
            assert LEVELS[parts[1]] <= own, f"{name} is in a higher layer"


@pytest.mark.parametrize("module", PURE_MODULES, ids=[str(path.relative_to(ROOT)) for path in PURE_MODULES])
def test_module_without_io_imports_none(module: Path) -> None:
    assert not {name.split(".")[0] for name in imports_of(module)} & IO_MODULES


def test_import_dispy_loads_only_what_it_needs() -> None:
    """Programs on thousands of cores pay for each of these; what a cluster needs is loaded when one is made."""
    heavy = ("trio", "msgspec", "cloudpickle", "pluggy", "logging", "ssl", "asyncio", "subprocess", "socket")
    code = f"import sys, dispy; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "[]\n"
