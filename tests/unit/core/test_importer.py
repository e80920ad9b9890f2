from __future__ import annotations

import importlib
import importlib.resources
import inspect
import pkgutil
import sys
import traceback
from pathlib import Path

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
    importer = SourceImporter(SOURCES, "/nowhere")
    assert importer.find_spec("json") is None
    assert importer.is_package("shipped")
    assert not importer.is_package("shipped.part")
    assert importer.get_source("shipped.part") == SOURCES["shipped.part"][0]


@pytest.fixture
def placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of jobs, with the files of the package."""
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "__init__.py").write_text(SOURCES["shipped"][0])
    (tmp_path / "shipped" / "part.py").write_text(SOURCES["shipped.part"][0])
    (tmp_path / "shipped" / "data.txt").write_text("data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("clean")
def test_modules_whose_files_came_along_find_their_data(
    placed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(SOURCES)
    monkeypatch.chdir("/")
    package, part = importlib.import_module("shipped"), importlib.import_module("shipped.part")
    assert package.__file__ == str(placed / "shipped" / "__init__.py")
    assert part.__file__ == str(placed / "shipped" / "part.py")
    assert [module.name for module in pkgutil.iter_modules(package.__path__)] == ["part"]
    assert importlib.resources.files("shipped").joinpath("data.txt").read_text() == "data"
    assert pkgutil.get_data("shipped", "data.txt") == pkgutil.get_data("shipped.part", "data.txt") == b"data"
    assert inspect.getsource(part.fail) == "def fail():\n    return 1 // 0  # here\n"
    assert part.fail.__code__.co_filename == "/client/shipped/part.py", "which users know"


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("other", [b"made by a job", b"# coding: none\n", b"\xff"])
def test_other_files_of_the_same_name_are_not_theirs(placed: Path, other: bytes) -> None:
    (placed / "shipped" / "part.py").write_bytes(other)
    install(SOURCES)
    assert importlib.import_module("shipped.part").__file__ == "/client/shipped/part.py"


@pytest.mark.usefixtures("clean")
def test_data_that_did_not_come_along_is_told() -> None:
    install(SOURCES)
    importlib.import_module("shipped")
    told = r"did not come along with the code: name its package in depends=\[...\]: '/client/shipped"
    with pytest.raises(FileNotFoundError, match=told):
        importlib.resources.files("shipped").joinpath("data.txt").read_text()
    with pytest.raises(FileNotFoundError, match=told):
        pkgutil.get_data("shipped", "data.txt")


@pytest.mark.usefixtures("clean")
def test_the_text_for_the_node_needs_nothing_of_dispy() -> None:
    text = loading_text()
    assert "import dispy" not in text
    assert "from dispy" not in text
    exec(text, {"SOURCES": SOURCES, "__name__": "elsewhere"})
    assert importlib.import_module("shipped").VALUE == 3
    assert type(sys.meta_path[0]).__module__ == "elsewhere"
