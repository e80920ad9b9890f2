"""Bundles are made here and loaded in another process, where nothing of the client's modules can be found."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dispy.errors import InvalidComputation, NotPicklable, UsageError
from dispy.model import PythonVersion
from dispy.packing.bundle import (
    FunctionBundle,
    ProgramBundle,
    pack_computation,
    pack_function,
    pack_program,
)

LOADER = Path(__file__).with_name("bundle_loader.py")
HERE = PythonVersion(*sys.version_info[:3])
OTHER = PythonVersion(HERE.major, HERE.minor + 1)

Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclasses.dataclass
class Client:
    """A client program in a folder of its own, and a node in another."""

    folder: Path
    node: Path
    monkeypatch: pytest.MonkeyPatch

    def main(self, text: str) -> ModuleType:
        """Make *text* the running program."""
        file = self.folder / "program.py"
        file.write_text(textwrap.dedent(text))
        module = ModuleType("__main__")
        module.__file__ = str(file)
        self.monkeypatch.setitem(sys.modules, "__main__", module)
        exec(compile(file.read_text(), str(file), "exec"), module.__dict__)
        return module

    def write(self, name: str, text: str = "") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def module(self, name: str) -> ModuleType:
        """Import one of the client's modules; it is forgotten after the test."""
        self.monkeypatch.delitem(sys.modules, name, raising=False)
        module = importlib.import_module(name)
        self.monkeypatch.setitem(sys.modules, name, module)
        return module

    def run(self, bundle: FunctionBundle, *calls: Call, version: PythonVersion = HERE) -> list[Any]:
        """Return the results of jobs at the node; an exception comes as the text of its traceback."""
        code = bundle.for_python(version)
        assert isinstance(code, bytes), code
        (self.node / "code").write_bytes(code)
        for number, (args, kwargs) in enumerate(calls):
            (self.node / f"body-{number}").write_bytes(bundle.pack_arguments(args, kwargs))
        subprocess.run([sys.executable, "-I", LOADER, self.node], check=True, cwd=self.node, timeout=60)
        results = []
        for number in range(len(calls)):
            is_result, end = pickle.loads((self.node / f"end-{number}").read_bytes())
            results.append(pickle.loads(end) if is_result else end)
        return results

    def call(self, bundle: FunctionBundle, *args: Any, version: PythonVersion = HERE, **kwargs: Any) -> Any:
        return self.run(bundle, (args, kwargs), version=version)[0]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    folder, node = tmp_path / "client", tmp_path / "node"
    folder.mkdir()
    node.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    return Client(folder, node, monkeypatch)


both_ways = pytest.mark.parametrize("version", [HERE, OTHER], ids=["bytecode", "source"])


# ---- functions of the program


@both_ways
def test_a_function_goes_with_everything_it_refers_to(client: Client, version: PythonVersion) -> None:
    main = client.main(
        """
        import math
        import os.path as where
        from collections import Counter

        FACTOR = 3
        TABLE = {"a": (1, 2.5)}

        def helper(n):
            return n * FACTOR

        def compute(n, *, more=0):
            return helper(n) + more, math.floor(TABLE["a"][1]), Counter("aab")["a"], where.basename("x/y")
        """
    )
    bundle = pack_function(main.compute)
    assert bundle.name == "compute"
    assert client.call(bundle, 2, more=1, version=version) == (7, 2, 2, "y")


@both_ways
def test_all_functions_share_one_namespace(client: Client, version: PythonVersion) -> None:
    main = client.main(
        """
        def remember(value):
            global data
            data = value

        def compute(n):
            if n:
                remember(n)
            return data, sorted(set(globals()) & {"compute", "remember"})
        """
    )
    results = client.run(pack_function(main.compute), ((5,), {}), ((0,), {}), version=version)
    assert results == [(5, ["compute", "remember"])] * 2


@both_ways
def test_an_instance_of_a_shipped_class_is_an_instance_of_it_at_the_node(
    client: Client, version: PythonVersion
) -> None:
    main = client.main(
        """
        class Base:
            def double(self):
                return 2 * self.n

        class Item(Base):
            def __init__(self, n):
                super().__init__()
                self.n = n

        def compute(item):
            assert type(item) is Item and isinstance(item, Base), item
            item.n = item.double()
            return item
        """
    )
    bundle = pack_function(main.compute, [main.Item])
    body = bundle.pack_arguments((main.Item(4),), {})
    assert len(body) < 120, "the class went by value with the arguments"
    result = client.call(bundle, main.Item(4), version=version)
    assert type(result) is main.Item
    assert result.n == 8


@both_ways
def test_depends_gives_functions_classes_and_classes_of_instances_their_names(
    client: Client, version: PythonVersion
) -> None:
    main = client.main(
        """
        class Base: pass
        class ByClass(Base): pass
        class ByInstance: pass
        def by_function(): return 1

        def compute():
            return [name for name in ("Base", "ByClass", "ByInstance", "by_function") if name in globals()]
        """
    )
    depends = [main.ByClass, main.ByInstance(), main.by_function]
    given = list(depends)
    found = client.call(pack_function(main.compute, depends), version=version)
    assert found == ["Base", "ByClass", "ByInstance", "by_function"]
    assert depends == given


@both_ways
def test_a_decorated_function(client: Client, version: PythonVersion) -> None:
    main = client.main(
        """
        import functools

        def twice(function):
            @functools.wraps(function)
            def wrapper(*args):
                return 2 * function(*args)
            return wrapper

        @twice
        def compute(n):
            return n + 1
        """
    )
    assert client.call(pack_function(main.compute), 3, version=version) == 8


@both_ways
def test_a_cached_function(client: Client, version: PythonVersion) -> None:
    main = client.main(
        """
        import functools

        @functools.lru_cache(maxsize=7)
        def fibonacci(n):
            return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
        """
    )
    assert client.call(pack_function(main.fibonacci), 60, version=version) == 1548008755920


@both_ways
def test_a_lambda(client: Client, version: PythonVersion) -> None:
    main = client.main("N = 2\nsquare = lambda x: x ** N\n")
    assert client.call(pack_function(main.square), 5, version=version) == 25


def test_a_closure(client: Client) -> None:
    main = client.main(
        """
        def make(n):
            def compute(x):
                return inner(x) * n
            def inner(x):
                return x + n
            return compute
        """
    )
    bundle = pack_function(main.make(10))
    assert client.call(bundle, 1) == 110
    reason = bundle.for_python(OTHER)
    assert isinstance(reason, str)
    for part in (str(HERE), str(OTHER), "compute", "inner"):
        assert part in reason


@both_ways
def test_a_partial(client: Client, version: PythonVersion) -> None:
    main = client.main("def compute(a, b, c):\n    return a, b, c\n")
    bundle = pack_function(functools.partial(main.compute, 1, c=3))
    assert bundle.name == "compute"
    assert client.call(bundle, 2, version=version) == (1, 2, 3)


@both_ways
def test_an_instance_that_can_be_called(client: Client, version: PythonVersion) -> None:
    main = client.main(
        """
        class Adder:
            def __init__(self, n):
                self.n = n
            def __call__(self, x):
                return self.n + x
        """
    )
    bundle = pack_function(main.Adder(4))
    assert bundle.name == "Adder"
    assert client.call(bundle, 3, version=version) == 7


METHODS = """
    class Base:
        kind = "base"

    class Thing(Base):
        def __init__(self, n):
            self.n = n

        def compute(self, x):
            return self.n, x, super().kind

        def plus(self, other):
            return self.n + other.n

        @classmethod
        def make(cls, n):
            return cls(n)
"""


@both_ways
def test_a_bound_method_takes_the_instance_it_is_given_or_its_own(
    client: Client, version: PythonVersion
) -> None:
    main = client.main(METHODS)
    bundle = pack_function(main.Thing(1).compute)
    assert bundle.for_python(version) is bundle.for_python(version)
    given, own = client.run(bundle, ((main.Thing(2), "x"), {}), ((), {"x": "y"}), version=version)
    assert given == (2, "x", "base")
    assert own == (1, "y", "base")


def test_a_method_may_take_another_instance_as_its_argument(client: Client) -> None:
    main = client.main(METHODS)
    thing, other = main.Thing(1), main.Thing(5)
    bundle = pack_function(thing.plus)
    assert bundle.bind_arguments((other,), {}) == (thing, other)
    assert bundle.bind_arguments((other, thing), {}) == (other, thing)
    assert client.run(bundle, ((other,), {}), ((main.Thing(2), other), {})) == [6, 7]


@both_ways
def test_a_class_method(client: Client, version: PythonVersion) -> None:
    main = client.main(METHODS)
    result = client.call(pack_function(main.Thing.make), 3, version=version)
    assert type(result) is main.Thing
    assert result.n == 3


def test_a_program_without_a_file_has_no_source_text(client: Client) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("class C: pass\ndef compute(x):\n    return type(x).__name__, type(x) is C", namespace)
    bundle = pack_function(namespace["compute"], [namespace["C"]])
    assert client.call(bundle, namespace["C"]()) == ("C", True)
    reason = bundle.for_python(OTHER)
    assert isinstance(reason, str)
    assert "has no source text" in reason


@both_ways
def test_globals_that_are_instances_of_shipped_classes(client: Client, version: PythonVersion) -> None:
    main = client.main(
        """
        from __future__ import annotations
        from dataclasses import dataclass

        @dataclass
        class Settings:
            depth: int

        SETTINGS = Settings(5)

        def compute(n: TypeThatIsOnlyForCheckers) -> int:
            return SETTINGS.depth + n
        """
    )
    assert client.call(pack_function(main.compute), 1, version=version) == 6


def test_lines_of_tracebacks_are_those_of_the_file(client: Client) -> None:
    main = client.main("\n\n\ndef compute():\n    return 1 // 0\n")
    for version in (HERE, OTHER):
        text = client.call(pack_function(main.compute), version=version)
        assert 'program.py", line 5, in compute' in text


# ---- local modules


def test_local_modules_come_along_with_what_they_import(client: Client) -> None:
    client.write(
        "tools_a.py",
        "import tools_b\nimport threading\nLOCK = threading.Lock()\n\ndef up(n):\n    return tools_b.ADD + n",
    )
    client.write("tools_b.py", "ADD = 40")
    client.write("tools_pkg/__init__.py", "from .deep.core import Core")
    client.write("tools_pkg/deep/__init__.py")
    client.write("tools_pkg/deep/core.py", "from ..names import NAME\n\nclass Core:\n    name = NAME")
    client.write("tools_pkg/names.py", "NAME = 'core'")
    for name in (
        "tools_a",
        "tools_b",
        "tools_pkg.names",
        "tools_pkg.deep",
        "tools_pkg.deep.core",
        "tools_pkg",
    ):
        client.module(name)
    main = client.main(
        """
        import tools_a
        from tools_pkg import Core

        def compute(core):
            assert type(core) is Core
            with tools_a.LOCK:
                return tools_a.up(2), core.name
        """
    )
    bundle = pack_function(main.compute)
    for version in (HERE, OTHER):
        assert client.call(bundle, main.Core(), version=version) == (42, "core")


def test_a_local_module_that_only_the_job_imports(client: Client) -> None:
    client.write("tools_late.py", "def late():\n    return 'late'")
    client.write("tools_late_pkg/__init__.py")
    client.write("tools_late_pkg/part.py", "PART = 1")
    main = client.main(
        """
        def compute():
            import tools_late
            from tools_late_pkg import part
            return tools_late.late(), part.PART
        """
    )
    bundle = pack_function(main.compute)
    assert "tools_late" not in sys.modules
    assert client.call(bundle) == ("late", 1)


def test_a_function_of_a_local_module_is_a_computation_too(client: Client) -> None:
    client.write("tools_pack/__init__.py", "import no_such_module_at_the_node")
    client.write("no_such_module_at_the_node.py")
    client.write(
        "tools_pack/work.py",
        """
        import no_such_module_at_the_node

        class Count:
            def __init__(self, n): self.n = n

        TOTAL = Count(0)

        def compute(count):
            assert type(count) is Count
            TOTAL.n += count.n
            global last
            last = TOTAL
            return last
        """,
    )
    work = client.module("tools_pack.work")
    bundle = pack_function(work.compute)
    code = bundle.for_python(HERE)
    assert b"no_such_module_at_the_node" not in code  # type: ignore[operator]
    first, second = client.run(bundle, ((work.Count(1),), {}), ((work.Count(2),), {}))
    assert (first.n, second.n) == (1, 3)
    assert type(first) is work.Count
    assert client.call(bundle, work.Count(5), version=OTHER).n == 5


def test_a_local_module_with_globals_that_cannot_be_pickled_goes_as_a_whole(client: Client) -> None:
    client.write(
        "tools_work.py",
        """
        import threading
        LOCK = threading.Lock()
        COUNT = [0]

        def compute(n):
            with LOCK:
                COUNT[0] += n
                return COUNT[0]

        def make(step):
            def count():
                return compute(step)
            return count
        """,
    )
    module = client.module("tools_work")
    module.COUNT[0] = 100  # state of the client is not that of the node
    for version in (HERE, OTHER):
        assert client.run(pack_function(module.compute), ((1,), {}), ((2,), {}), version=version) == [1, 3]
    assert client.run(pack_function(module.make(5)), ((), {}), ((), {})) == [5, 10]


def test_a_function_of_a_local_package_with_relative_imports(client: Client) -> None:
    client.write("tools_rel/__init__.py", "ROOT = 1")
    client.write("tools_rel/near.py", "NEAR = 2")
    client.write(
        "tools_rel/work.py",
        """
        import functools

        @functools.cache
        def compute():
            from . import near
            from .near import NEAR
            return near.NEAR + NEAR
        """,
    )
    assert client.call(pack_function(client.module("tools_rel.work").compute)) == 4


def test_a_module_in_depends_is_importable_and_its_file_is_sent(client: Client) -> None:
    client.write("src/tools_dep/__init__.py")
    client.write("src/tools_dep/mod.py", "VALUE = 7")
    client.monkeypatch.syspath_prepend(client.folder / "src")
    client.module("tools_dep")
    module = client.module("tools_dep.mod")
    main = client.main(
        """
        def compute():
            import importlib
            return importlib.import_module("tools_dep.mod").VALUE
        """
    )
    bundle = pack_function(main.compute, [module, json])
    assert [file.path for file in bundle.files] == ["tools_dep/__init__.py", "tools_dep/mod.py"]
    assert client.call(bundle) == 7


def test_all_of_a_package_comes_along(client: Client) -> None:
    """Also what nothing imports by name, and data; equal names in different packages do not meet."""
    for name in ("tree_a", "tree_b"):
        client.write(f"src/{name}/__init__.py")
        client.write(f"src/{name}/inner/__init__.py")
        client.write(f"src/{name}/inner/util.py", f"NAME = {name!r}")
        client.write(f"src/{name}/data/table.txt", name)
        client.write(f"src/{name}/.hidden/x.py", "bad")
        client.write(f"src/{name}/__pycache__/util.pyc", "bad")
    client.monkeypatch.syspath_prepend(client.folder / "src")
    modules = [client.module("tree_a"), client.module("tree_b")]
    main = client.main(
        """
        def compute(name):
            import importlib
            return importlib.import_module(name + ".inner.util").NAME
        """
    )
    bundle = pack_function(main.compute, modules)
    names = ("__init__.py", "data/table.txt", "inner/__init__.py", "inner/util.py")
    assert [file.path for file in bundle.files] == [
        f"{tree}/{name}" for tree in ("tree_a", "tree_b") for name in names
    ]
    for tree in ("tree_a", "tree_b"):
        assert client.call(bundle, tree) == tree


def test_instances_of_classes_of_a_local_module_that_did_not_come_along(client: Client) -> None:
    client.write("tools_apart.py", "class Apart:\n    n = 9\n    def get(self):\n        return self.n")
    main = client.main("def compute(value):\n    return value.get()\n")
    bundle = pack_function(main.compute)
    module = client.module("tools_apart")
    assert client.call(bundle, module.Apart()) == 9


def test_importing_dispy_does_not_send_dispy(client: Client) -> None:
    main = client.main(
        "import dispy.errors as errors\n\ndef compute():\n    return errors.DispyError.__name__\n"
    )
    code = pack_function(main.compute).for_python(HERE)
    assert isinstance(code, bytes)
    assert len(code) < 2000


# ---- what cannot be packed


@pytest.mark.parametrize(
    "value", [3, int, len, None, [].append, object()], ids=lambda value: type(value).__name__
)
def test_what_is_no_computation(value: Any) -> None:
    with pytest.raises(InvalidComputation, match="invalid computation type: .*give a function"):
        pack_computation(value)


async def coroutine_function() -> None: ...


def generator_function() -> Any:
    yield


async def async_generator_function() -> Any:
    yield


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (coroutine_function, "async def.*asyncio.run"),
        (functools.partial(coroutine_function), "async def.*asyncio.run"),
        (generator_function, "generator.*return a list"),
        (async_generator_function, "async generator"),
    ],
)
def test_functions_whose_call_gives_no_result(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(InvalidComputation, match=said):
        pack_function(function)


def test_a_function_that_cannot_be_shipped_names_what_is_in_the_way(client: Client) -> None:
    main = client.main(
        """
        import threading
        lock = threading.Lock()

        def helper():
            return lock

        def compute():
            return helper()
        """
    )
    with pytest.raises(NotPicklable) as caught:
        pack_function(main.compute)
    said = str(caught.value)
    assert "function 'compute'" in said
    assert "global variable 'helper' > global variable 'lock': _thread.lock" in said
    assert "inside the function" in said


def test_a_closure_that_cannot_be_shipped_names_the_variable() -> None:
    guard = threading.Lock()

    def compute() -> None:
        guard.acquire()

    with pytest.raises(NotPicklable, match="closure variable 'guard': _thread.lock"):
        pack_function(compute)


@pytest.mark.parametrize("element", [3, None, ["x"]], ids=repr)
def test_useless_elements_of_depends(client: Client, element: Any) -> None:
    main = client.main("def compute(): pass")
    with pytest.raises(UsageError, match="element 2 of depends"):
        pack_function(main.compute, [main.compute, element])


def test_methods_partials_and_nothing_in_depends(client: Client) -> None:
    main = client.main(
        """
        import functools
        class A:
            def method(self): pass
        class B:
            @classmethod
            def method(cls): pass
        def function(): pass
        def compute(): return sorted({"A", "B", "function"} & set(globals()))
        """
    )
    depends = [main.A().method, main.B.method, functools.partial(main.function)]
    assert client.call(pack_function(main.compute, depends)) == ["A", "B", "function"]
    assert client.call(pack_function(main.compute, None)) == []  # type: ignore[arg-type]


def test_depends_must_be_a_list(client: Client) -> None:
    main = client.main("def compute(): pass")
    with pytest.raises(UsageError, match="depends must be a list"):
        pack_function(main.compute, "file.dat")


# ---- files and programs


def test_files_of_a_function(client: Client, tmp_path: Path) -> None:
    client.write("data/one.txt", "1")
    outside = tmp_path / "two.txt"
    outside.write_text("22")
    main = client.main("def compute(): pass")
    bundle = pack_function(main.compute, ["data/one.txt", outside])
    assert bundle.is_function
    assert [(file.path, file.size) for file in bundle.files] == [("data/one.txt", 1), ("two.txt", 2)]


def test_a_missing_file(client: Client) -> None:
    main = client.main("def compute(): pass")
    with pytest.raises(UsageError, match=r"file 'no\.dat' is not valid: there is no such file"):
        pack_function(main.compute, ["no.dat"])


def test_a_program_lies_in_the_top_folder_whatever_its_path(client: Client) -> None:
    program = client.write("bin/count.sh", "#!/bin/sh\n")
    program.chmod(0o755)
    client.write("bin/data.txt")
    bundle = pack_computation("bin/count.sh", ["bin/data.txt"])
    assert isinstance(bundle, ProgramBundle)
    assert not bundle.is_function
    assert bundle.name == "count.sh"
    assert bundle.for_python(OTHER) == b"count.sh"
    assert [(file.path, file.mode) for file in bundle.files] == [
        ("count.sh", 0o755),
        ("bin/data.txt", 0o644),
    ]


def test_programs_and_their_files_are_found_on_path(client: Client, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "mytool").write_text("#!/bin/sh\n")
    (tools / "mytool").chmod(0o755)
    (tools / "script.py").write_text("print(1)")
    client.monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{tools}")
    bundle = pack_program("mytool", ["script.py"])
    assert [file.source for file in bundle.files] == [str(tools / "mytool"), str(tools / "script.py")]
    assert pack_program("script.py").name == "script.py"


def test_a_python_program_needs_no_execute_bit_but_others_do(client: Client) -> None:
    client.write("script.py").chmod(0o644)
    client.write("tool").chmod(0o644)
    assert pack_program("script.py").name == "script.py"
    with pytest.raises(
        InvalidComputation, match=r"file 'tool' is not valid: it is not executable.*chmod \+x"
    ):
        pack_program("tool")


@pytest.mark.parametrize(
    ("name", "executor"),
    [("Main.java", "java"), ("MAIN.JAVA", "java"), ("main.jar", "java"), ("main.py", "program")],
)
def test_java_needs_no_execute_bit_and_has_an_executor_of_its_own(
    client: Client, name: str, executor: str
) -> None:
    client.write(name, "")
    assert pack_program(name).executor == executor
    assert pack_function(lambda: None).executor == "function"


@pytest.mark.parametrize("path", ["no-such-program-anywhere", "/no/such/program", "."])
def test_programs_that_are_none(client: Client, path: str) -> None:
    with pytest.raises(InvalidComputation, match="is not valid: it is n.*give the path of a program"):
        pack_program(path)


def test_modules_go_with_programs_but_functions_do_not(client: Client) -> None:
    client.write("tools_prog.py")
    client.write("main.py")
    client.write("tools_prog_pkg/__init__.py")
    modules = [client.module("tools_prog"), client.module("tools_prog_pkg"), json]
    bundle = pack_program("main.py", modules)
    assert [file.path for file in bundle.files] == ["main.py", "tools_prog.py", "tools_prog_pkg/__init__.py"]
    with pytest.raises(UsageError, match="element 1 of depends .*of no use to a program"):
        pack_program("main.py", [len])


def test_program_arguments_become_strings(client: Client) -> None:
    client.write("main.py")
    assert pack_program("main.py").pack_arguments((1, "a b"), {}) == b"\2\0\0\0" + b"1\0a b\0"


def test_bundles_are_made_in_several_threads_at_once(client: Client) -> None:
    client.write("tools_threads.py", "def up(n):\n    return n + 1")
    client.module("tools_threads")
    main = client.main("import tools_threads\n\ndef compute(n):\n    return tools_threads.up(n)\n")
    codes: list[bytes | str] = []
    threads = [
        threading.Thread(target=lambda: codes.append(pack_function(main.compute).for_python(HERE)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(codes) == 4
    assert len(set(codes)) == 1


def test_bundles_tell_that_results_are_wanted_without_pickle(client: Client) -> None:
    main = client.main(
        """
        def compute():
            return 1
        """
    )
    plain, safe = pack_computation(main.compute), pack_computation(main.compute, safe_results=True)
    for version in (HERE, OTHER):
        assert safe.for_python(version) == b"R" + plain.for_python(version)


def test_bundles_of_programs_are_the_same_with_safe_results() -> None:
    assert pack_computation("sh", safe_results=True).for_python(HERE) == b"sh"
