from __future__ import annotations

import enum
import json
import sys
from collections.abc import Iterator

import pytest

from dispy.packing.bundle import pack_function
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
