"""What one job brings along: as the client packs it, and as the process of a job loads it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from dispy.errors import NotPicklable, UsageError
from dispy.model import INLINE_BODY_BYTES, FilePart, Pieces
from dispy.packing.bundle import FunctionBundle, pack_function, pack_program
from dispy.packing.jobparts import MAGIC
from dispy_node.runner import carried

LOADER = """
import os, pickle, sys
from dispy_node.runner.carried import Carried
from dispy_node.runner.inside import Inside
from dispy_node.runner.namespace import load
from dispy_node.runner.settings import Settings

node = sys.argv[1]
settings = Settings({"folder": node, "spool": sys.argv[2], "node": "there"})
os.chdir(node)
inside = Inside(settings)
computation = load(open("../code", "rb").read(), inside)
ends = []
for number, body in enumerate(pickle.load(open("../bodies", "rb"))):
    names, modules, finders = dict(vars(sys.modules["__main__"])), set(sys.modules), list(sys.meta_path)
    job = Carried(settings, number, 1)
    args, kwargs = job.arguments(0, body, inside)
    ends.append(pickle.dumps(computation.compute(*args, **kwargs)))
    job.put_away()
    assert {n: v for n, v in vars(sys.modules["__main__"]).items() if n != "__builtins__"} == {
        n: v for n, v in names.items() if n != "__builtins__"
    }
    assert sys.meta_path == finders
    assert not {name for name in set(sys.modules) - modules if name.startswith("tools_")}
    assert os.listdir() == [], os.listdir()
open("../ends", "wb").write(pickle.dumps(ends))
"""

PROGRAM = """
class Shipped:
    pass

class Own:
    def __init__(self, n=0):
        self.n = n

def helper(n):
    return n + 1

def uses_shipped(value):
    return isinstance(value, Shipped)

def compute(*names):
    import importlib, os
    space = globals()
    found = [name for name in names if isinstance(name, str) and name in space]
    for name in names:
        if isinstance(name, str) and name.startswith("tools_"):
            found.append(importlib.import_module(name).VALUE)
    return found, sorted(os.listdir()), [
        value for value in names if not isinstance(value, str)
    ], space["helper"](1) if "helper" in space else None

def check(value):
    return globals()["uses_shipped"](Shipped()), type(value) is globals()["Own"], value

def answer(n):
    return n
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client_main: Any) -> Any:
    """Run calls at a node, one process for all; each is (args, dispy_job_depends)."""

    def run(bundle: FunctionBundle, *calls: tuple[tuple[Any, ...], list[Any]]) -> list[Any]:
        bodies = []
        for args, depends in calls:
            body = bundle.pack_arguments(args, {}, bundle.pack_parts(depends, max_file_bytes=0))
            assert isinstance(body, bytes)
            bodies.append(body)
        for folder in ("node", "spool"):
            (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / "code").write_bytes(bundle.code)
        (tmp_path / "bodies").write_bytes(pickle.dumps(bodies))
        command = [sys.executable, "-I", "-c", LOADER, tmp_path / "node", tmp_path / "spool"]
        subprocess.run(command, check=True, timeout=60)
        return [pickle.loads(end) for end in pickle.loads((tmp_path / "ends").read_bytes())]

    return run


@pytest.fixture
def client_main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import types

    folder = tmp_path / "client"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    module = types.ModuleType("__main__")
    file = folder / "program.py"
    file.write_text(textwrap.dedent(PROGRAM))
    module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "__main__", module)
    exec(compile(file.read_text(), str(file), "exec"), module.__dict__)
    return module


def test_it_is_there_for_that_job_only(run: Any, client_main: Any) -> None:
    Path("tools_x.py").write_text("VALUE = 7")
    Path("data.txt").write_text("data")
    import importlib

    module = importlib.import_module("tools_x")
    try:
        bundle = pack_function(client_main.compute)
        names = ("helper", "Own", "tools_x")
        nothing = ([], [], [], None)
        ends = run(
            bundle,
            (("helper", "Own"), []),
            (names, [client_main.helper, client_main.Own(3), module, "data.txt"]),
            (("helper", "Own"), []),
            ((client_main.Own(5),), [client_main.Own]),
        )
    finally:
        del sys.modules["tools_x"]
    assert ends[0] == ends[2] == nothing
    assert ends[1] == (["helper", "Own", 7], ["data.txt", "tools_x.py"], [], 2)
    ((own,),) = [ends[3][2]]
    assert type(own) is client_main.Own
    assert own.n == 5


def test_it_refers_to_what_the_computation_has_brought(run: Any, client_main: Any) -> None:
    bundle = pack_function(client_main.check)
    parts = [client_main.uses_shipped, client_main.Own]
    ((shipped, own, value),) = run(bundle, ((client_main.Own(1),), parts))
    assert (shipped, own) == (True, True)
    assert type(value) is client_main.Own


def test_small_files_are_taken_at_once(client_main: Any) -> None:
    bundle = pack_function(client_main.answer)
    Path("small").write_text("now")
    parts = bundle.pack_parts(["small"], max_file_bytes=0)
    assert parts.carries == ("small", 3)
    body = bundle.pack_arguments((1,), {}, parts)
    assert isinstance(body, bytes)
    assert body.startswith(MAGIC)
    assert b"now" in body
    Path("small").write_text("later")
    with pytest.raises(UsageError, match="small' has changed while it was read"):
        bundle.pack_arguments((1,), {}, parts)
    Path("small").unlink()
    with pytest.raises(UsageError, match="small' is not valid: it cannot be read: No such file"):
        bundle.pack_arguments((1,), {}, parts)


def test_large_files_are_read_when_they_are_sent(client_main: Any) -> None:
    bundle = pack_function(client_main.answer)
    Path("large").write_bytes(bytes(INLINE_BODY_BYTES))
    Path("tiny").write_bytes(b"x")
    parts = bundle.pack_parts(["tiny", "large"], max_file_bytes=INLINE_BODY_BYTES)
    assert parts.carries == ("large", INLINE_BODY_BYTES)
    body = bundle.pack_arguments((bytes(10),), {}, parts)
    assert isinstance(body, Pieces)
    assert [part.path for part in body.parts if isinstance(part, FilePart)] == [
        os.path.abspath("tiny"),
        os.path.abspath("large"),
    ]
    assert len(body) > INLINE_BODY_BYTES
    with pytest.raises(UsageError, match="file 'large' has 65536 bytes, more than the 1 of max_file_size"):
        bundle.pack_parts(["tiny", "large"], max_file_bytes=1)


def test_large_arguments_stay_in_pieces(client_main: Any) -> None:
    data = bytes(1_000_000)
    bundle = pack_function(client_main.answer)
    body = bundle.pack_arguments((data,), {}, bundle.pack_parts([client_main.helper], max_file_bytes=0))
    assert isinstance(body, Pieces)
    assert any(part is data for part in body.parts)


@pytest.mark.parametrize(
    ("depends", "problem"),
    [
        ("file", "dispy_job_depends must be a list, not 'file'"),
        (["missing"], "file 'missing' is not valid: there is no such file"),
        ([5], "element 1 of depends is 5, of which nothing can be sent"),
        ([None], "element 1 of depends is None"),
    ],
)
def test_what_cannot_come_along(client_main: Any, depends: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        pack_function(client_main.answer).pack_parts(depends, max_file_bytes=0)


def test_what_cannot_be_pickled_is_named(client_main: Any) -> None:
    client_main.__dict__["lock"] = __import__("threading").Lock()
    exec("def locked():\n    return lock", client_main.__dict__)
    with pytest.raises(NotPicklable, match="'locked' of depends cannot be sent.*global variable 'lock'"):
        pack_function(client_main.answer).pack_parts([client_main.locked], max_file_bytes=0)


def test_programs_take_files_and_modules(client_main: Any) -> None:
    Path("run.sh").write_text("#!/bin/sh\n")
    Path("run.sh").chmod(0o755)
    Path("data").write_text("content")
    bundle = pack_program("run.sh")
    body = bundle.pack_arguments(("a",), {}, bundle.pack_parts(["data"], max_file_bytes=0))
    assert isinstance(body, bytes)
    assert body.endswith(b"content" + bundle.pack_arguments(("a",), {}))  # type: ignore[operator]
    with pytest.raises(UsageError, match=r"element 1 of depends \(function\) is of no use to a program"):
        bundle.pack_parts([client_main.helper], max_file_bytes=0)


def test_both_sides_agree() -> None:
    assert MAGIC == carried.MAGIC
