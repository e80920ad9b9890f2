"""One call of the function, and what it came to."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dispy.packing.safe import decode
from dispy_node.runner.body import BROKEN, DIED, RAISED, RETURNED, split_body
from dispy_node.runner.call import Caller, result_name
from dispy_node.runner.frames import SPOOLED, Result, unpack_results
from dispy_node.runner.namespace import Computation
from dispy_node.runner.replies import INLINE, INTERRUPTED


class Calls:
    """A caller and what it has said."""

    def __init__(
        self, settings: Any, compute: Callable[..., Any], sources: dict[str, str], *, safe: bool = False
    ) -> None:
        self.settled = 0
        self.caller = Caller(Computation(compute, sources, safe_results=safe), settings, self._settle)
        self.caller.process = os.getpid()
        self.flags = -1

    def _settle(self) -> None:
        self.settled += 1

    def body(self, body: bytes, kind: int = INLINE) -> Result:
        before = time.time()
        self.flags, record = self.caller.call(7, 2, kind, body, before)
        (result,) = unpack_results(record)
        assert result[:2] == (7, 2)
        assert before == result[4] <= result[5] <= time.time()
        assert self.settled == 1
        return result

    def __call__(self, *args: object, **kwargs: object) -> Result:
        return self.body(pickle.dumps((args, kwargs), 5))


@pytest.fixture
def calling(make_settings):
    """Give the means to make a caller of a function."""

    def make(
        compute: Callable[..., Any],
        sources: dict[str, str] | None = None,
        *,
        safe: bool = False,
        **given: object,
    ) -> Calls:
        return Calls(make_settings(**given), compute, sources or {}, safe=safe)

    return make


def parts(result: Result) -> tuple[bytes, bytes, bytes, bytes]:
    *_, is_path, body = result
    return split_body(Path(os.fsdecode(body)).read_bytes() if is_path else body)


def test_results(calling) -> None:
    calls = calling(lambda *args, **kwargs: [args, kwargs])
    result = calls(1, b=2)
    assert (calls.flags, *result[2:4], result[6]) == (0, RETURNED, 0, "")
    value, *rest = parts(result)
    assert pickle.loads(value) == [(1,), {"b": 2}]
    assert rest == [b"", b"", b""]


@pytest.mark.parametrize(("inline_bytes", "in_file"), [(1000, False), (999, True)])
def test_large_results_go_to_a_file(calling, tmp_path: Path, inline_bytes: int, in_file: bool) -> None:
    overhead = len(pickle.dumps(b"x" * 500, 5)) - 500 + 20
    result = calling(lambda size: b"x" * size, inline_bytes=inline_bytes)(1000 - overhead)
    assert result[7] is in_file
    assert pickle.loads(parts(result)[0]) == b"x" * (1000 - overhead)
    assert (tmp_path / result_name(7, 2)).exists() is in_file


def test_results_that_cannot_be_stored(calling, tmp_path: Path) -> None:
    result = calling(lambda: b"x" * 1000, inline_bytes=100, spool=str(tmp_path / "nowhere"))()
    assert (result[2], result[7], parts(result)[0]) == (BROKEN, False, b"")
    assert "the job's result (1" in result[6]
    assert "cannot be stored on node there" in result[6]


def test_functions_as_results(calling) -> None:
    result = calling(lambda offset: lambda number: number + offset)(40)
    assert pickle.loads(parts(result)[0])(2) == 42


def test_results_that_cannot_be_pickled(calling) -> None:
    result = calling(threading.Lock)()
    assert result[2] == BROKEN
    assert "of type _thread.lock, cannot be pickled on node there" in result[6]


def test_exceptions(calling) -> None:
    def divide(number: int) -> float:
        return number / 0

    calls = calling(divide)
    result = calls(3)
    value, error, *_ = parts(result)
    assert (calls.flags, result[2], result[6]) == (0, RAISED, "")
    assert isinstance(pickle.loads(value), ZeroDivisionError)
    assert error.decode().startswith("Traceback (most recent call last):\n")
    assert error.decode().endswith("ZeroDivisionError: division by zero\n")
    assert "call.py" not in error.decode().replace("test_call.py", "")


def test_tracebacks_show_lines_of_shipped_text(calling) -> None:
    text = "def compute():\n    raise ValueError  # right here\n"
    namespace: dict[str, Any] = {}
    exec(compile(text, "shipped-only.py", "exec"), namespace)
    error = parts(calling(namespace["compute"], {"shipped-only.py": text})())[1].decode()
    assert 'File "shipped-only.py", line 2, in compute\n    raise ValueError  # right here\n' in error


def test_lines_of_shipped_text_are_those_of_the_compiler(calling) -> None:
    """Form feeds and others of their kind begin no new line, though `str.splitlines` says so."""
    text = "\f\nTEXT = '\x1c\u2028'\n\fdef compute():\n    raise ValueError  # right here\n"
    namespace: dict[str, Any] = {}
    exec(compile(text, "shipped-feed.py", "exec"), namespace)
    error = parts(calling(namespace["compute"], {"shipped-feed.py": text})())[1].decode()
    assert 'File "shipped-feed.py", line 4, in compute\n    raise ValueError  # right here\n' in error


def test_exceptions_that_cannot_be_pickled(calling) -> None:
    class Odd(Exception):
        def __reduce__(self) -> str:
            raise TypeError("never")

        def __str__(self) -> str:
            raise ValueError("no words")

    def fail() -> None:
        raise Odd

    value, error, *_ = parts(calling(fail)())
    assert value == b""
    assert b"Odd" in error


@pytest.mark.parametrize(
    ("status", "code"), [(None, 0), (0, 0), (3, 3), (256 + 4, 4), (-1, 255), ("no", 1), (True, 1)]
)
def test_exits(calling, status: object, code: int) -> None:
    def leave() -> None:
        raise SystemExit(status)

    result = calling(leave)()
    assert result[2:4] == (DIED, code)
    assert result[6] == f"the job called sys.exit({'' if status is None else repr(status)})"


def test_interrupts_are_told(calling) -> None:
    def wrapped() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise RuntimeError("stopped") from error

    calls = calling(wrapped)
    assert calls()[2] == RAISED
    assert calls.flags == INTERRUPTED


def test_chains_of_exceptions_may_go_round(calling) -> None:
    def circle() -> None:
        first, second = ValueError("first"), ValueError("second")
        first.__cause__, second.__cause__ = second, first
        raise first

    calls = calling(circle)
    assert (calls()[2], calls.flags) == (RAISED, 0)


def test_arguments_that_cannot_be_loaded(calling) -> None:
    result = calling(lambda: None).body(b"\x80\x05cnowhere_found\nThing\n.")
    assert result[2] == BROKEN
    assert "module 'nowhere_found' is not installed on node there" in result[6]
    result = calling(lambda: None).body(b"garbage")
    assert (result[2], "the job's arguments cannot be loaded" in result[6]) == (BROKEN, True)


class Leave:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit(3)",)


def test_arguments_that_raise_no_plain_exception(calling) -> None:
    assert calling(lambda leave: None)(Leave())[2:4] == (DIED, 3)


def test_arguments_in_a_file(calling, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(pickle.dumps(((b"x" * 100,), {}), 5))
    result = calling(len).body(os.fsencode(path), SPOOLED)
    assert pickle.loads(parts(result)[0]) == 100
    assert not path.exists()
    assert calling(len).body(os.fsencode(path), SPOOLED)[2] == BROKEN


def test_results_that_have_not_run(calling) -> None:
    async def waits() -> None: ...

    async def yields() -> Any:
        yield 1

    def generates() -> Any:
        yield 1

    for function, words in ((waits, "async def"), (yields, "async generator"), (generates, "generator")):
        result = calling(function)()
        assert result[2] == BROKEN
        assert result[6].startswith(f"{function.__name__} is a")
        assert words in result[6]


def test_a_class_may_be_called_like_a_type_of_python(calling) -> None:
    for name in ("generator", "coroutine", "async_generator"):
        result = calling(lambda name=name: Named(name))()
        assert result[2] == RETURNED, name


class Named:
    """Something whose type has any name, though pickle finds it."""

    def __new__(cls, name: str) -> Any:
        return type(name, (), {"__reduce__": lambda self: (str, (name,))})()


class Strange(type):
    """A metaclass whose classes are equal to everything."""

    def __eq__(cls, other: object) -> bool:
        return True

    __hash__ = type.__hash__


class Odd(metaclass=Strange):
    def __reduce__(self) -> Any:
        return str, ("odd",)


def test_types_of_results_are_not_asked_what_they_equal(calling) -> None:
    assert calling(Odd)()[2] == RETURNED


@pytest.mark.parametrize(
    ("error", "flags"),
    [(ValueError, 0), (SystemExit, 0), (RuntimeError, 0), (KeyboardInterrupt, INTERRUPTED)],
)
def test_a_generator_that_fails_when_it_is_closed_is_refused_as_such(
    calling, error: type[BaseException], flags: int
) -> None:
    def fails() -> Any:
        def generate() -> Any:
            try:
                yield 1
            finally:
                if error is RuntimeError:
                    yield 2  # ignores that it is closed
                raise error

        generator = generate()
        next(generator)
        return generator

    calls = calling(fails)
    result = calls()
    assert (result[2], calls.flags) == (BROKEN, flags)
    assert result[6].startswith("fails is a generator function or returns a generator")


def test_file_names_differ_between_attempts() -> None:
    assert len({result_name(*key) for key in [(1, 1), (1, 11), (11, 1), (1, 2)]}) == 4


def test_results_without_pickle(calling) -> None:
    result = calling(lambda: (1, "x"), safe=True)()
    assert (result[2], decode(parts(result)[0])) == (RETURNED, (1, "x"))
    large = calling(lambda: b"x" * 2000, safe=True, inline_bytes=1000)()
    assert (large[7], decode(parts(large)[0])) == (True, b"x" * 2000)


def test_results_that_do_not_fit_without_pickle(calling) -> None:
    result = calling(lambda: [1, threading.Lock()], safe=True)()
    assert (result[2], parts(result)[0]) == (BROKEN, b"")
    assert result[6].startswith(
        "result[1] is of type _thread.lock, which does not fit results='safe': return"
    )


def test_exceptions_without_pickle(calling) -> None:
    class Own(Exception):
        pass

    def fail(error: type[Exception]) -> None:
        raise error("x")

    result = calling(lambda: fail(ValueError), safe=True)()
    value, error, *_ = parts(result)
    assert (result[2], decode(value)) == (RAISED, ["ValueError", ("x",)])
    assert error.endswith(b"ValueError: x\n")
    value, error, *_ = parts(calling(lambda: fail(Own), safe=True)())
    assert value == b""
    assert error.endswith(b"Own: x\n")
