from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dispy.errors import UsageError
from dispy.packing.elements import (
    add_file_or_module,
    add_module_files,
    as_text,
    elements_of,
    is_file_or_module,
    on_path,
    useless_to_program,
)
from dispy.packing.files import Files


def test_nothing_is_an_empty_list() -> None:
    assert list(elements_of(None)) == []
    assert list(elements_of(("a", 5))) == ["a", 5]


@pytest.mark.parametrize("value", ["file", b"file", 5])
def test_what_is_no_list(value: Any) -> None:
    with pytest.raises(UsageError, match="dispy_job_depends must be a list, not "):
        elements_of(value, "dispy_job_depends")


def test_what_programs_can_use() -> None:
    assert all(is_file_or_module(one) for one in ("x", Path("x"), json))
    assert not any(is_file_or_module(one) for one in (b"x", len, 5))
    assert "element 3 of depends (builtin_function_or_method) is of no use" in str(useless_to_program(len, 3))


def test_paths_are_text() -> None:
    assert as_text(Path("a") / "b", 1) == os.path.join("a", "b")

    class Strange:
        def __fspath__(self) -> bytes:
            return b"x"

    with pytest.raises(
        UsageError, match="element 2 of depends is b'x': give paths as text, with os.fsdecode"
    ):
        as_text(Strange(), 2)


def test_files_are_looked_for_along_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tool.py").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert on_path("tool.py") == str(tmp_path / "tool.py")
    assert on_path("nothing") is None
    assert on_path("/tool.py") is None
    files = Files()
    add_file_or_module(files, "tool.py", 1)
    assert [file.path for file in files.all()] == ["tool.py"]
    with pytest.raises(UsageError, match="file 'nothing' is not valid: there is no such file"):
        add_file_or_module(files, "nothing", 2)


def test_files_of_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.py"
    path.touch()
    module = ModuleType("own")
    module.__file__ = str(path)
    files = Files()
    add_file_or_module(files, module, 1)
    add_module_files(files, json)
    module.__file__ = str(tmp_path / "archive.zip" / "inner.py")
    add_module_files(files, module)
    assert [(file.source, file.path) for file in files.all()] == [(str(path), "own.py")], "json is everywhere"


def test_a_module_that_comes_from_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="module 'made' of depends comes from no file"):
        add_module_files(Files(str(tmp_path)), ModuleType("made"))
    files = Files(str(tmp_path))
    add_module_files(files, sys)  # every node has it
    assert files.all() == []
