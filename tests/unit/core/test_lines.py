from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from dispy.packing.lines import LinesOf, lines_of

TEXT = """SECRET = "nobody's business"

def first(x):
    return (
        x,
    )

def second(x):
    def inner():
        return [
            y
            for y in x
        ]
    return inner

third = lambda: 3
"""


def functions_of(path: Path, text: str) -> Callable[[str], FunctionType]:
    path.write_text(text)
    namespace: dict[str, Any] = {}
    exec(compile(text, str(path), "exec"), namespace)
    return lambda name: namespace[name]


def test_lines_of_functions_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    find = functions_of(path, TEXT)
    found = lines_of([find("second"), find("first"), find("third"), find("second")])
    rows = TEXT.splitlines(keepends=True)
    assert found == {
        str(path): [(8, "".join(rows[7:14])), (3, "".join(rows[2:6])), (16, rows[15])],
    }


def test_decorators_belong_to_their_function(tmp_path: Path) -> None:
    text = "def same(f):\n    return f\n\n@same\n@same\ndef g():\n    pass\n"
    find = functions_of(tmp_path / "code.py", text)
    assert lines_of([find("g")]) == {str(tmp_path / "code.py"): [(4, "@same\n@same\ndef g():\n    pass\n")]}


@pytest.mark.parametrize("changed", ["x =", "x = '\0'"])
def test_a_file_that_is_no_longer_code(tmp_path: Path, changed: str) -> None:
    find = functions_of(tmp_path / "code.py", TEXT)
    (tmp_path / "code.py").write_text(changed)
    assert lines_of([find("first")]) == {}, "it has fewer lines"


def test_functions_without_lines(tmp_path: Path) -> None:
    find = functions_of(tmp_path / "code.py", TEXT)
    (tmp_path / "code.py").unlink()
    assert lines_of([find("first")]) == {}
    assert lines_of([]) == {}


def test_what_is_added_before_it_is_pickled_counts() -> None:
    functions: list[FunctionType] = []
    lines = LinesOf(functions)
    functions.append(functions_of)
    ((first, text),) = pickle.loads(pickle.dumps(lines))[__file__]
    assert first == functions_of.__code__.co_firstlineno
    assert text.startswith("def functions_of(")
