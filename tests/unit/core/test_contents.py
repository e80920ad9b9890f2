"""What goes into a bundle beside the function: what runs before and after the jobs, and what is called first.

That all of it works at a node is for `test_namespace` of the runner and the tests of whole nodes.
"""

from __future__ import annotations

import functools
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from dispy.errors import NotPicklable, UsageError
from dispy.model import PythonVersion
from dispy.packing.bundle import OWN_VERSION, pack_computation, pack_function, pack_program
from dispy.packing.callee import examine
from dispy.packing.contents import Contents
from dispy.packing.preparation import Preparation

OTHER = PythonVersion(OWN_VERSION.major, OWN_VERSION.minor + 1)


def compute() -> int:
    return 1


def prepare(size: int = 0) -> int:
    return 0


def init_depends() -> None:
    pass


class Box:
    pass


PREPARATION = Preparation(prepare, functools.partial(prepare, 3))


def test_contents_of_a_function_and_of_a_program() -> None:
    contents = Contents(examine(compute), PREPARATION)
    assert (contents.name, contents.target, contents.first) == ("compute", compute, None)
    contents = Contents(None, PREPARATION)
    assert (contents.name, contents.target) == ("setup and cleanup", None)


def test_the_first_function_is_recognised_by_its_name() -> None:
    contents = Contents(examine(compute), Preparation())
    contents.add(init_depends, 1)
    contents.add(Box, 2)
    contents.add(init_depends, 3)
    assert contents.first is init_depends
    assert contents.names == {"compute": compute, "init_depends": init_depends, "Box": Box}

    def another() -> None:
        pass

    another.__name__ = "init_depends"
    with pytest.raises(UsageError, match="element 4 of depends is a second function 'init_depends'"):
        contents.add(another, 4)


def text_of(bundle: Any) -> dict[str, Any]:
    code = bundle.for_python(OTHER)
    assert isinstance(code, bytes), code
    content: dict[str, Any] = json.loads(code[code.index(b"{") :])
    return content


def test_source_text_names_what_is_called() -> None:
    bundle = pack_function(compute, [init_depends], preparation=PREPARATION)
    content = text_of(bundle)
    assert (content["setup"], content["cleanup"]) == ("_dispy_setup", "_dispy_cleanup")
    texts = [source["text"] for source in content["sources"]]
    first = texts.index("_dispy_init()")
    assert any("def init_depends" in text for text in texts[:first])
    assert not any("_dispy_compute" in text or "_dispy_setup" in text for text in texts[1:first])
    assert any("_dispy_setup" in text for text in texts[first:])
    assert not {"setup", "cleanup"} & set(text_of(pack_function(compute)))


@pytest.fixture
def program(tmp_path: Path) -> str:
    file = tmp_path / "Sing"
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return str(file)


def test_code_of_a_program_comes_behind_its_name(program: str) -> None:
    bundle = pack_computation(program, [Box], preparation=PREPARATION)
    code = bundle.for_python(OWN_VERSION)
    assert isinstance(code, bytes)
    assert code.startswith(b"Sing\0P")
    assert bundle.preparation is PREPARATION
    assert pack_program(program).for_python(OWN_VERSION) == b"Sing"
    content = text_of(pack_program(program, preparation=Preparation(prepare)))
    assert (content["compute"], content["setup"]) == (None, "_dispy_setup")


def test_a_program_without_setup_has_no_use_for_functions(program: str) -> None:
    with pytest.raises(UsageError, match="of no use to a program"):
        pack_program(program, [prepare])


def test_a_setup_that_cannot_be_sent(program: str) -> None:
    lock = threading.Lock()

    def setup() -> int:
        return int(lock.locked())

    for computation in (compute, program):
        with pytest.raises(NotPicklable, match="setup function cannot be sent to nodes: .*lock"):
            pack_computation(computation, preparation=Preparation(setup))


def test_arguments_of_setup(program: str) -> None:
    for bundle in (
        pack_function(compute, preparation=PREPARATION),
        pack_program(program, preparation=PREPARATION),
    ):
        assert bundle.pack_setup_arguments(()) == b""
        large = bytes(1_000_000)
        packed = bundle.pack_setup_arguments((large,))
        assert type(packed) is bytes
        assert len(packed) > len(large)
        with pytest.raises(NotPicklable, match=r"setup_args: argument 1 \(.*lock.*\) cannot be sent"):
            bundle.pack_setup_arguments((threading.Lock(),))
