from __future__ import annotations

import enum
import functools
import json
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispy.model import PythonVersion
from dispy.packing.bundle import OWN_VERSION, FunctionBundle, ProgramBundle, pack_function, pack_program
from dispy.packing.preparation import Preparation
from dispy_node.runner.namespace import BadBundle, load


@pytest.fixture(autouse=True)
def main_is_put_back() -> Iterator[None]:
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


def sources(*texts: str, name: str = "p.py") -> bytes:
    pieces = [{"text": text, "name": name} for text in texts]
    return b"S" + json.dumps({"sources": pieces, "compute": "compute"}).encode()


def test_sources_share_a_namespace_which_is_main() -> None:
    loaded = load(sources("offset = 3", "class Box: pass\ndef compute(n): return n + offset"))
    assert loaded.compute(4) == 7
    assert sys.modules["__main__"].__dict__["Box"].__module__ == "__main__"
    assert sys.modules["__main__"].__dict__["compute"] is loaded.compute


def test_pieces_of_one_file_are_one_text_for_tracebacks() -> None:
    loaded = load(sources("from __future__ import annotations\nx = 1\n", "\n\n\ndef compute(): return x\n"))
    assert loaded.sources["p.py"].splitlines() == [
        "from __future__ import annotations",
        "x = 1",
        "",
        "def compute(): return x",
    ]
    assert loaded.compute() == 1


def test_our_own_future_imports_are_not_theirs() -> None:
    assert load(sources("def compute(n: int): pass")).compute.__annotations__ == {"n": int}


def test_bundle_of_a_client() -> None:
    offset = 3

    def helper(number: int) -> int:
        return number + offset

    def compute(number: int) -> int:
        return helper(number)

    assert load(pack_function(compute).code).compute(4) == 7


@pytest.mark.parametrize("safe_results", [False, True])
def test_bundle_tells_how_results_are_wanted(safe_results: bool) -> None:
    def compute() -> int:
        return 5

    bundle = pack_function(compute, safe_results=safe_results)
    loaded = load(bundle.code)
    assert (loaded.compute(), loaded.safe_results) == (5, safe_results)
    assert load(b"R" * safe_results + sources("def compute(): pass")).safe_results is safe_results


def test_bundle_that_only_cloudpickle_can_rebuild() -> None:
    class Colour(enum.Enum):
        RED = 3

    def compute() -> int:
        return Colour.RED.value

    Colour.__module__ = "__main__"
    assert load(pack_function(compute, [Colour]).code).compute() == 3


@pytest.mark.parametrize(
    ("bundle", "text"),
    [
        (b"", "unknown kind"),
        (b"Xx", "unknown kind"),
        (b"R", "unknown kind"),
        (b"RRS{}", "unknown kind"),
        (b"P\x80\x05N.", "no computation"),
        (b"P\x80\x05K\x05Q.", "unknown reference"),
        (b"S{}", "no computation"),
        (sources("x = 1"), "does not define 'compute'"),
        (sources("compute = 1"), "not callable"),
    ],
)
def test_what_is_no_bundle(bundle: bytes, text: str) -> None:
    with pytest.raises(BadBundle, match=text):
        load(bundle)


def test_errors_of_the_code_come_through() -> None:
    with pytest.raises(ZeroDivisionError):
        load(sources("1 / 0"))
    with pytest.raises(ModuleNotFoundError, match="nowhere_found"):
        load(b"P\x80\x05cnowhere_found\nThing\n.")


def test_pieces_of_one_file_keep_the_numbers_of_their_lines() -> None:
    first, second = "A = '\f'\n\fB = 2\n", "\n\n\nC = 3\n"
    loaded = load(sources(first, second, "\n" * 5 + "def compute(): pass", name="one.py"))
    assert loaded.sources["one.py"].split("\n") == [
        "A = '\f'",
        "\fB = 2",
        "",
        "C = 3",
        "",
        "def compute(): pass",
    ]


def program_of(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> types.ModuleType:
    """Make *text* the running program."""
    file = tmp_path / "program.py"
    file.write_text(textwrap.dedent(text))
    module = types.ModuleType("__main__")
    module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "__main__", module)
    exec(compile(file.read_text(), str(file), "exec"), module.__dict__)
    return module


PROGRAM = """
class Box:
    pass

def setup(value):
    global data
    data = value
    return 0

def cleanup(value):
    del globals()["data"]

def compute():
    return data, Box

def init_depends():
    global order
    order = ["init"]
"""

both_ways = pytest.mark.parametrize(
    "version",
    [OWN_VERSION, PythonVersion(OWN_VERSION.major, OWN_VERSION.minor + 1)],
    ids=["bytecode", "source"],
)


def code_of(bundle: FunctionBundle | ProgramBundle, version: PythonVersion) -> bytes:
    code = bundle.for_python(version)
    assert isinstance(code, bytes), code
    return code


@both_ways
def test_setup_jobs_and_cleanup_share_their_globals(
    version: PythonVersion, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    main = program_of(PROGRAM, monkeypatch, tmp_path)
    bundle = pack_function(
        main.compute, [main.init_depends], preparation=Preparation(main.setup, main.cleanup)
    )
    loaded = load(code_of(bundle, version))
    assert loaded.setup is not None
    assert loaded.cleanup is not None
    namespace = sys.modules["__main__"].__dict__
    assert namespace["order"] == ["init"]
    assert loaded.setup(7) == 0
    assert loaded.compute() == (7, namespace["Box"])
    loaded.cleanup(7)
    assert "data" not in namespace
    assert "data" not in main.__dict__


@both_ways
def test_partial_as_setup(version: PythonVersion, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    main = program_of(PROGRAM, monkeypatch, tmp_path)
    bundle = pack_function(main.compute, preparation=Preparation(functools.partial(main.setup, 5)))
    loaded = load(code_of(bundle, version))
    assert loaded.setup is not None
    assert loaded.setup() == 0
    assert (loaded.compute()[0], loaded.cleanup) == (5, None)


@both_ways
def test_setup_with_a_program(
    version: PythonVersion, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    main = program_of(PROGRAM, monkeypatch, tmp_path)
    program = tmp_path / "run.py"
    program.touch()
    bundle = pack_program(str(program), [main.Box], Preparation(main.setup))
    name, _, code = code_of(bundle, version).partition(b"\0")
    assert name == b"run.py"
    loaded = load(code, is_program=True)
    assert loaded.compute is None
    assert loaded.setup is not None
    assert loaded.setup(1) == 0
    with pytest.raises(BadBundle, match="not callable"):
        load(code)


FIRST = """
import enum

class Colour(enum.Enum):
    RED = 1

def init_depends():
    global calls
    calls = globals().get("calls", 0) + 1
    assert "compute" not in globals()
    %s

def compute():
    return calls, Colour.RED.value
"""


@both_ways
def test_init_depends_is_called_once_and_first(
    version: PythonVersion, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where what follows needs another way of loading: an enumeration does."""
    main = program_of(FIRST % "pass", monkeypatch, tmp_path)
    bundle = pack_function(main.compute, [main.Colour, main.init_depends])
    assert load(code_of(bundle, version)).compute() == (1, 1)


def test_failure_of_init_depends_is_the_failure_of_loading(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    main = program_of(FIRST % "raise OSError('no such disk')", monkeypatch, tmp_path)
    with pytest.raises(BadBundle, match="init_depends has failed: OSError: no such disk"):
        load(pack_function(main.compute, [main.init_depends]).code)
    main = program_of(FIRST % "import nowhere_found", monkeypatch, tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nowhere_found"):
        load(pack_function(main.compute, [main.init_depends]).code)
