from __future__ import annotations

import importlib
import sys
import traceback

import pytest

from dispy.packing.importer import SourceImporter, install
from dispy.packing.modules import loading_text

SOURCES = {
    "shipped": ("from .part import VALUE\n", True, "/client/shipped/__init__.py"),
    "shipped.part": (
        "VALUE = 3\n\ndef fail():\n    return 1 // 0  # here\n",
        False,
        "/client/shipped/part.py",
    ),
}


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())


@pytest.mark.usefixtures("clean")
def test_modules_are_imported_from_their_texts() -> None:
    install(SOURCES)
    package = importlib.import_module("shipped")
    part = importlib.import_module("shipped.part")
    assert package.VALUE == part.VALUE == 3
    assert part.__file__ == "/client/shipped/part.py"
    assert part.__package__ == "shipped"
    with pytest.raises(ZeroDivisionError) as caught:
        part.fail()
    printed = "".join(traceback.format_exception(caught.value))
    assert '"/client/shipped/part.py", line 4, in fail' in printed
    assert "return 1 // 0  # here" in printed


@pytest.mark.usefixtures("clean")
def test_they_come_before_modules_of_the_same_name() -> None:
    install({"colorsys": ("OURS = True", False, "colorsys.py")})
    sys.modules.pop("colorsys", None)
    assert importlib.import_module("colorsys").OURS


def test_other_modules_are_left_to_others() -> None:
    importer = SourceImporter(SOURCES)
    assert importer.find_spec("json") is None
    assert importer.is_package("shipped")
    assert not importer.is_package("shipped.part")
    assert importer.get_source("shipped.part") == SOURCES["shipped.part"][0]


@pytest.mark.usefixtures("clean")
def test_the_text_for_the_node_needs_nothing_of_dispy() -> None:
    text = loading_text()
    assert "import dispy" not in text
    assert "from dispy" not in text
    exec(text, {"SOURCES": SOURCES, "__name__": "elsewhere"})
    assert importlib.import_module("shipped").VALUE == 3
    assert type(sys.meta_path[0]).__module__ == "elsewhere"
