"""Bundles become callables: in an interpreter of its own, because the module ``__main__`` is replaced."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dispy.model import PythonVersion
from dispy.packing.bundle import pack_function
from dispy_node.runner.namespace import BadBundle, load

OTHER_PYTHON = PythonVersion(sys.version_info.major, sys.version_info.minor + 1)

LOAD = """
import pickle, sys
from dispy_node.runner.namespace import load

with open(sys.argv[1], "rb") as file:
    computation = load(file.read())
with open(sys.argv[2], "rb") as file:
    args = pickle.load(file)
told = {
    "result": computation.compute(*args),
    "main": sorted(name for name in vars(sys.modules["__main__"]) if not name.startswith("__")),
    "sources": computation.sources,
    "cloudpickle": "cloudpickle" in sys.modules,
}
"""


@pytest.fixture
def load_and_call(run_script, tmp_path: Path):
    """Give the means to load a bundle elsewhere and to call what it holds."""
    import pickle

    def run(bundle: bytes, *args: object) -> Any:
        (tmp_path / "bundle").write_bytes(bundle)
        (tmp_path / "args").write_bytes(pickle.dumps(args))
        return run_script(LOAD, str(tmp_path / "bundle"), str(tmp_path / "args"))

    return run


def sources(compute: str, *texts: str, name: str = "program.py") -> bytes:
    pieces = [
        {"text": text, "name": name if len(texts) == 1 else f"{at}-{name}"} for at, text in enumerate(texts)
    ]
    return b"S" + json.dumps({"sources": pieces, "compute": compute}).encode()


@pytest.fixture
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put back the module ``__main__`` of the tests."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


# ---- pickles


def offset() -> int:
    return 40


def call_offset(number: int) -> int:
    return offset() + number


def test_functions_by_value_without_cloudpickle(load_and_call) -> None:
    told = load_and_call(pack_function(call_offset, [offset]).code, 2)
    assert told["result"] == 42
    assert {"call_offset", "offset"} <= set(told["main"])
    assert not told["cloudpickle"]
    assert told["sources"] == {}


def test_classes_and_closures(load_and_call) -> None:
    factor = 3

    class Box:
        def __init__(self, content: int) -> None:
            self.content = content * factor

    def compute(content: int) -> int:
        return Box(content).content

    assert load_and_call(pack_function(compute).code, 5)["result"] == 15


def test_what_needs_cloudpickle_gets_it(load_and_call) -> None:
    import abc
    import enum

    class Colour(enum.Enum):
        RED = 1

    class Shape(abc.ABC):
        @abc.abstractmethod
        def area(self) -> int: ...

    class Square(Shape):
        def area(self) -> int:
            return 4

    def compute() -> list[Any]:
        return [Colour.RED.name, Square().area()]

    told = load_and_call(pack_function(compute).code)
    assert told["result"] == ["RED", 4]
    assert told["cloudpickle"]


# ---- sources


def test_texts_are_run_in_one_namespace_in_order(load_and_call) -> None:
    bundle = sources("compute", "base = 40\n", "def compute(number):\n    return base + number\n")
    told = load_and_call(bundle, 2)
    assert told["result"] == 42
    assert told["main"] == ["base", "compute"]
    assert told["sources"] == {
        "0-program.py": "base = 40\n",
        "1-program.py": "def compute(number):\n    return base + number\n",
    }


def test_sources_of_the_client(load_and_call) -> None:
    code = pack_function(call_offset, [offset]).code_for(OTHER_PYTHON)
    assert code[:1] == b"S"
    assert load_and_call(code, 2)["result"] == 42


def test_texts_do_not_inherit_our_future_imports(load_and_call) -> None:
    text = "def compute(number: 1 + 1):\n    return compute.__annotations__['number']\n"
    assert load_and_call(sources("compute", text), 0)["result"] == 2


def test_pieces_of_one_file_are_laid_over_each_other(main_module) -> None:
    pieces = [
        {"text": "def first():\n    return 1\n", "name": "program.py"},
        {"text": "\n\n\ndef compute():\n    return first() + 1\n", "name": "program.py"},
        {"text": "\n\nx = 3\n", "name": "program.py"},
    ]
    computation = load(b"S" + json.dumps({"sources": pieces, "compute": "compute"}).encode())
    assert computation.compute() == 2
    assert computation.compute.__code__.co_firstlineno == 4
    assert computation.sources == {
        "program.py": "def first():\n    return 1\nx = 3\ndef compute():\n    return first() + 1"
    }


def test_main_is_a_fresh_module(main_module) -> None:
    before = sys.modules["__main__"]
    load(sources("compute", "def compute(): pass\n"))
    assert sys.modules["__main__"] is not before
    assert sys.modules["__main__"].__name__ == "__main__"
    assert sys.modules["__main__"].compute.__module__ == "__main__"  # type: ignore[attr-defined]


# ---- what is no bundle

PICKLED_LIST = b"P\x80\x05]."
ODD_REFERENCE = b"P\x80\x05\x8c\x03oddQ."


@pytest.mark.parametrize(
    ("bundle", "words"),
    [
        (b"", "unknown kind of code bundle: b''"),
        (b"X123", "unknown kind of code bundle: b'X'"),
        (b"S[]", "has no computation"),
        (b'S{"sources": []}', "has no computation"),
        (b'S{"sources": [], "compute": "f"}', "does not define 'f'"),
        (sources("f", "f = 3\n"), "not callable but of type int"),
        (PICKLED_LIST, "has no computation"),
        (ODD_REFERENCE, "unknown reference in the code bundle: 'odd'"),
    ],
)
def test_what_is_no_bundle_is_refused(main_module, bundle: bytes, words: str) -> None:
    with pytest.raises(BadBundle, match=words):
        load(bundle)


def test_errors_of_the_code_itself_are_passed_on(main_module) -> None:
    with pytest.raises(ZeroDivisionError):
        load(sources("compute", "1 / 0\n"))
    with pytest.raises(SystemExit):
        load(sources("compute", "raise SystemExit\n"))
    with pytest.raises(SyntaxError):
        load(sources("compute", "def\n"))
    with pytest.raises(ModuleNotFoundError):
        load(b"P\x80\x05cnowhere_found\nThing\n.")
