"""What setup has made of the global variables, for processes that do not share memory."""

from __future__ import annotations

import functools
import pickle
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import pytest

from dispy_node.runner.handover import Memory, restore
from dispy_node.runner.inside import LateModule

TEXT = """
class Box:
    def __init__(self, size): self.size = size
def helper(): return 1
kept, grown, gone, lock = [1], [], 2, None
def setup():
    global made, box, module, copy, function, shared, lock, both
    import random as module, copy
    import threading
    made, box, function = {"a": 1}, Box(3), helper
    lock = shared = threading.Lock()
    both = made
    grown.append(5)
    del globals()["gone"]
"""


@pytest.fixture
def new_main(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Give the means to put a new main module in place, as the next process would have it."""

    def make(text: str) -> dict[str, Any]:
        module = types.ModuleType("__main__")
        monkeypatch.setitem(sys.modules, "__main__", module)
        module.__dict__["copy"] = LateModule("copy")
        exec(text, module.__dict__)
        return module.__dict__

    return make


def test_what_setup_sets_changes_and_deletes_is_there_in_another_process(new_main: Any) -> None:
    here = new_main(TEXT)
    memory = Memory(here["setup"])
    here["setup"]()
    data = memory.pack()
    there = new_main(TEXT)
    box, lock, copy = there["Box"], there["lock"], there["copy"]
    restore(data)
    assert there["made"] == {"a": 1}
    assert there["both"] is there["made"]
    assert type(there["box"]) is box
    assert there["box"].size == 3
    assert there["function"] is there["helper"]
    assert there["grown"] == [5]
    assert "gone" not in there
    assert there["module"] is sys.modules["random"]
    # What stood for a module loads it when it is used there, too.
    assert there["copy"] is copy
    assert there["lock"] is lock is None
    assert "shared" not in there
    assert sorted(memory.left) == ["lock", "shared"]
    assert "cannot pickle" in memory.left["lock"]


def test_nothing_is_sent_that_setup_has_left_alone(new_main: Any) -> None:
    here = new_main(TEXT.replace("grown.append(5)", "pass"))
    memory = Memory(here["setup"])
    changed, gone = pickle.loads(memory.pack())
    assert changed == {"__main__": {}}
    assert gone == {"__main__": []}


def test_what_only_this_process_has_is_left_out_with_the_remedy(new_main: Any) -> None:
    here = new_main(
        "def old(): pass\n"
        "def setup():\n"
        "    global new, old, New, instance, made_up\n"
        "    import types\n"
        "    def new(): pass\n"
        "    def old(): pass\n"
        "    class New: pass\n"
        "    instance = New()\n"
        "    made_up = types.ModuleType('made_up')\n"
    )
    memory = Memory(here["setup"])
    here["setup"]()
    there = new_main("")
    restore(memory.pack())
    assert {"new", "old", "New", "instance", "made_up"}.isdisjoint(there)
    assert sorted(memory.left) == ["New", "instance", "made_up", "new", "old"]
    assert memory.left["instance"] == "NotGiven: setup has defined 'New' itself: define it outside of setup"
    assert memory.left["made_up"] == "NotGiven: module 'made_up' cannot be imported by name"


KINDS: list[Callable[[dict[str, Any]], Callable[[], object]]] = [
    lambda names: functools.partial(names["setup"], 7),
    lambda names: names["Caller"](),
    lambda names: names["Caller"]().method,
]


@pytest.mark.parametrize("kind", KINDS)
def test_globals_of_the_module_of_setup_are_sent_whatever_can_be_called(
    new_main: Any, monkeypatch: pytest.MonkeyPatch, kind: Callable[[dict[str, Any]], Callable[[], object]]
) -> None:
    text = (
        "def setup(n):\n    global number\n    number = n\n"
        "class Caller:\n    def __call__(self): setup(7)\n    def method(self): setup(7)\n"
    )

    def new_module() -> dict[str, Any]:
        module = types.ModuleType("shipped_module")
        monkeypatch.setitem(sys.modules, "shipped_module", module)
        exec(text, module.__dict__)
        return module.__dict__

    new_main("")
    setup = kind(new_module())
    memory = Memory(setup)
    setup()
    data = memory.pack()
    there = new_module()
    restore(data)
    assert there["number"] == 7


def test_a_value_that_cannot_be_compared_counts_as_unchanged_as_long_as_it_is_the_same(new_main: Any) -> None:
    here = new_main("def setup(): pass")
    here["lock"] = threading.Lock()
    memory = Memory(here["setup"])
    memory.pack()
    assert memory.left == {}
    here["lock"] = threading.Lock()
    memory.pack()
    assert list(memory.left) == ["lock"]
