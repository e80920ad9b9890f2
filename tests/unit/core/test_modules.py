from __future__ import annotations

import importlib
import json
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

import dispy.errors
from dispy.packing.modules import ModuleSources, imported_names, is_local, names_imported_by


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    return tmp_path


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def collect(*names: str) -> dict[str, tuple[str, bool]]:
    sources = ModuleSources()
    sources.add(names)
    return {name: (text, is_package) for name, (text, is_package, _) in sources.texts.items()}


def test_what_is_local(project: Path) -> None:
    write(project, locally="")
    assert is_local(importlib.import_module("locally"))
    for module in (sys, json, importlib.import_module("json.decoder"), cloudpickle, pytest, dispy.errors):
        assert not is_local(module), module
    assert not is_local(sys.modules["__main__"])
    assert not is_local(ModuleType("locally"))
    assert not is_local("no module")


class Pretender:
    """As what cffi puts into sys.modules: a module for isinstance, and without attributes."""

    __slots__ = ()

    @property
    def __class__(self) -> type:
        return ModuleType


def test_what_only_pretends_to_be_a_module_is_not_local() -> None:
    assert isinstance(Pretender(), ModuleType)
    assert not is_local(Pretender())


def test_installed_and_compiled_modules_are_not_local(tmp_path: Path) -> None:
    for file in ("site-packages/installed.py", "lib/dist-packages/installed.py", "built.so", "only.pyc"):
        module = ModuleType("installed")
        module.__file__ = str(tmp_path / file)
        assert not is_local(module), file


def test_imports_are_followed_in_every_form(project: Path) -> None:
    write(
        project,
        first="import json, second.deep as deep\nfrom third import THING\n",
        second____init__="",
        second__deep="def f():\n    from . import sibling\n",
        second__sibling="from .. import nothing\nfrom ..first import x",
        second__unused="",
        third="",
        unrelated="",
    )
    (project / "second/__init__.py").write_text("# package")
    found = collect("first")
    assert sorted(found) == ["first", "second", "second.deep", "second.sibling", "third"]
    assert found["second"] == ("# package", True)
    assert "first" not in sys.modules


def test_a_module_brings_its_packages(project: Path) -> None:
    write(project, outer__inner__leaf="LEAF = 1")
    (project / "outer/inner/__init__.py").write_text("INNER = 1")
    importlib.import_module("outer.inner.leaf")
    assert collect("outer.inner.leaf") == {
        "outer": ("", True),
        "outer.inner": ("INNER = 1", True),
        "outer.inner.leaf": ("LEAF = 1", False),
    }


def test_a_folder_without_init_that_is_not_imported(project: Path) -> None:
    write(project, loose__leaf="LEAF = 1")
    assert collect("loose.leaf") == {"loose": ("", True), "loose.leaf": ("LEAF = 1", False)}


@pytest.mark.parametrize(
    "name", ["json", "json.decoder", "no_such_module", "no.such.module", "sys", "pytest"]
)
def test_names_that_bring_nothing(name: str) -> None:
    assert collect(name) == {}


def test_modules_that_import_each_other(project: Path) -> None:
    write(project, ping="import pong", pong="import ping")
    assert sorted(collect("ping")) == ["ping", "pong"]


def test_a_file_that_cannot_be_read_as_text_is_left_out(project: Path) -> None:
    (project / "garbled.py").write_bytes(b"# coding: utf-8\nX = '\xff'\n")
    assert collect("garbled") == {}


def test_declared_encodings_are_obeyed(project: Path) -> None:
    (project / "latin.py").write_bytes(b"# coding: latin-1\nX = '\xe9'\n")
    assert collect("latin")["latin"][0].endswith("X = 'é'\n")


def test_modules_in_an_archive(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(project / "archive.zip", "w") as archive:
        archive.writestr("zipped.py", "ZIPPED = 1\n")
    monkeypatch.syspath_prepend(project / "archive.zip")
    importlib.import_module("zipped")
    assert collect("zipped") == {"zipped": ("ZIPPED = 1\n", False)}


def test_relative_imports() -> None:
    text = "from . import a\nfrom .b import c\nfrom .. import d\nfrom ..... import e\n"
    assert list(imported_names(text, "p.q.m", is_package=False)) == [
        "p.q",
        "p.q.a",
        "p.q.b",
        "p.q.b.c",
        "p",
        "p.d",
    ]
    assert list(imported_names("from . import a", "p.q", is_package=True)) == ["p.q", "p.q.a"]
    assert list(imported_names("not python", "p", is_package=False)) == []


def test_what_functions_import() -> None:
    def function() -> object:
        import json.decoder
        from collections import abc, deque

        def inner() -> object:
            import struct

            return struct

        return inner, json, abc, deque

    found = list(names_imported_by(function.__code__))
    assert found == ["json.decoder", "collections", "collections.abc", "collections.deque", "struct"]
    assert "pkg.collections.abc" in set(names_imported_by(function.__code__, "pkg"))


def test_functions_that_import_relatively() -> None:
    namespace: dict[str, Any] = {}
    exec("def function():\n    from . import near\n    from .far import thing", namespace)
    code = namespace["function"].__code__
    assert list(names_imported_by(code)) == ["far", "far.thing"]
    assert {"pkg.near", "pkg.far", "pkg.far.thing"} <= set(names_imported_by(code, "pkg"))
