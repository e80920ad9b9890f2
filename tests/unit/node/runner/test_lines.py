from __future__ import annotations

import importlib
import sys

import pytest

from dispy_node.runner.lines import remember, texts_of

NAME = "/elsewhere/code.py"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())


def test_pieces_keep_the_numbers_of_their_lines() -> None:
    lines = {NAME: [(4, "def b():\n    pass\n"), (1, "def a(): 'x\x0cy'\n")], "empty": []}
    assert texts_of(lines) == {NAME: "def a(): 'x\x0cy'\n...\n\ndef b():\n    pass\n...", "empty": ""}


def test_pieces_may_lie_in_each_other() -> None:
    lines = {
        NAME: [(2, "    def b():\n        pass\n"), (1, "def a():\n    def b():\n        pass\n\n    b()\n")]
    }
    assert texts_of(lines)[NAME] == "def a():\n    def b():\n        pass\n\n    b()\n..."


def test_lines_are_there_if_linecache_is() -> None:
    linecache = importlib.import_module("linecache")
    remember({NAME: "first\nsecond"})
    linecache.checkcache()
    assert linecache.getline(NAME, 2) == "second\n"
    del linecache.cache[NAME]


def test_lines_are_there_once_linecache_is_imported() -> None:
    before = list(sys.meta_path)
    del sys.modules["linecache"]
    remember({NAME: "first"})
    remember({"other": "for one job"})
    remember({})
    importlib.import_module("colorsys")
    assert "linecache" not in sys.modules
    linecache = importlib.import_module("linecache")
    assert (linecache.getline(NAME, 1), linecache.getline("other", 1)) == ("first\n", "for one job\n")
    assert linecache.__loader__ is linecache.__spec__.loader
    assert type(linecache.__loader__).__module__ != "dispy_node.runner.lines"
    assert sys.meta_path == before


def test_linecache_that_is_nowhere() -> None:
    del sys.modules["linecache"]
    sys.meta_path.clear()
    remember({NAME: "first"})
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("linecache")
