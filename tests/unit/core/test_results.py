from __future__ import annotations

import inspect
import pickle
import sys
import traceback
from types import ModuleType
from typing import Any

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.errors import (
    JobBroken,
    JobCancelled,
    JobDied,
    JobKilled,
    JobLimitExceeded,
    JobMemoryExceeded,
    JobRaised,
    JobTimeout,
)
from dispy.model import Limit, Outcome
from dispy.options import Submitting
from dispy.packing.results import (
    TRAILER,
    RemoteTraceback,
    ResultBody,
    decode_end,
    load_value,
    rebuild_exception,
)
from dispy.wire.messages import JobResult
from dispy_node.runner.safe import encode, encode_exception

WHERE = "node1 (10.0.0.1)"


def ended(
    outcome: int, body: ResultBody | bytes = b"", *, code: int = 0, detail: str = "", started: float = 5.0
) -> JobResult:
    data = body if isinstance(body, bytes) else body.pack()
    return JobResult(
        job=3,
        attempt=2,
        outcome=outcome,
        code=code,
        detail=detail,
        started_at=started,
        ended_at=6.0,
        body=data,
    )


sections = st.builds(ResultBody, st.binary(), st.binary(), st.binary(), st.binary())


@given(sections)
def test_layout_round_trip(body: ResultBody) -> None:
    packed = body.pack()
    assert ResultBody.parse(packed) == body
    if packed:
        lengths = [len(part) for part in (body.value, body.error, body.stdout, body.stderr)]
        assert packed == body.value + body.error + body.stdout + body.stderr + TRAILER.pack(*lengths)
    else:
        assert body == ResultBody()


@given(
    st.binary()
    | sections.map(ResultBody.pack).flatmap(lambda data: st.integers(0, len(data)).map(lambda n: data[n:]))
)
def test_any_bytes_are_a_body_or_a_value_error(data: bytes) -> None:
    try:
        body = ResultBody.parse(data)
    except ValueError:
        return
    assert body.pack() == data or not any(map(len, (body.value, body.error, body.stdout, body.stderr)))


def test_a_result_with_output() -> None:
    end = decode_end(ended(Outcome.RETURNED, ResultBody(pickle.dumps([1]), b"", b"out", b"err")), WHERE)
    assert (end.value, end.stdout, end.stderr, end.exception, end.error) == ([1], b"out", b"err", None, None)


def test_the_exit_status_of_a_program() -> None:
    end = decode_end(ended(Outcome.EXITED, code=-9), WHERE)
    assert (end.value, end.stdout, end.stderr, end.error) == (-9, b"", b"", None)


def test_an_exception_has_its_remote_traceback_and_tells_where_it_comes_from() -> None:
    text = "Traceback (most recent call last):\n  ...\nKeyError: 'k'\n"
    end = decode_end(
        ended(Outcome.RAISED, ResultBody(pickle.dumps(KeyError("k")), text.encode(), b"x")), WHERE
    )
    assert end.exception == text
    assert end.stdout == b"x"
    assert isinstance(end.error, KeyError)
    assert end.error.args == ("k",)
    assert isinstance(end.error.__cause__, RemoteTraceback)
    assert end.error.__notes__ == ["job 3, attempt 2, at node node1 (10.0.0.1)"]
    printed = "".join(traceback.format_exception(end.error))
    assert printed.index("most recent call last):\n  ...") < printed.index("job 3, attempt 2")


class NeedsTwo(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("only one argument is pickled")


@pytest.mark.parametrize(
    "value",
    [b"", b"damaged", pickle.dumps(5), pickle.dumps(NeedsTwo(1, 2))],
    ids=["none", "damaged", "no exception", "cannot be made"],
)
def test_an_exception_that_cannot_be_rebuilt(value: bytes) -> None:
    error = rebuild_exception(value, "the traceback")
    assert type(error) is JobRaised
    assert str(error) == "the traceback"


class Frozen(Exception):
    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("frozen")

    def add_note(self, note: str) -> None:
        raise TypeError("no notes")


class Noteless(Exception):
    def add_note(self, note: str) -> None:
        raise TypeError("no notes")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise TypeError("no text")


def test_exceptions_with_strange_classes() -> None:
    noteless = decode_end(
        ended(Outcome.RAISED, ResultBody(pickle.dumps(Noteless("x")), b"the traceback")), WHERE
    )
    assert type(noteless.error) is JobRaised
    assert noteless.error.__notes__ == ["job 3, attempt 2, at node node1 (10.0.0.1) (no notes)"]
    unprintable = decode_end(ended(Outcome.RAISED, ResultBody(pickle.dumps(Unprintable()))), WHERE)
    assert unprintable.exception == "Unprintable"


def test_an_exception_class_that_forbids_everything() -> None:
    end = decode_end(ended(Outcome.RAISED, ResultBody(pickle.dumps(Frozen("x")), b"the traceback")), WHERE)
    assert type(end.error) is JobRaised
    assert "job 3" in end.error.__notes__[0]
    assert end.exception == "the traceback"


@pytest.mark.parametrize(
    ("result", "kind", "said"),
    [
        (ended(Outcome.DIED, detail="out of memory", code=-9), JobKilled, "out of memory"),
        (ended(Outcome.DIED, code=-11), JobKilled, "the job's process was ended by signal 11"),
        (ended(Outcome.DIED, code=3), JobDied, "exit status 3 and no result"),
        (ended(Outcome.BROKEN, detail="\x1b[2Jx\ny"), JobBroken, r"\?\[2Jx\n    y"),
        (ended(Outcome.BROKEN, detail="no module 'x'"), JobBroken, "no module 'x'"),
        (ended(Outcome.BROKEN), JobBroken, "could not be run"),
        (ended(Outcome.CANCELLED), JobCancelled, "was cancelled"),
        (ended(Outcome.EXCEEDED, code=1, detail="too long"), JobTimeout, "too long"),
        (ended(Outcome.EXCEEDED, code=2, detail="too busy"), JobTimeout, "too busy"),
        (ended(Outcome.EXCEEDED, code=3, detail="too large"), JobMemoryExceeded, "too large"),
        (ended(Outcome.EXCEEDED, code=4, detail="too many"), JobLimitExceeded, "too many"),
        (ended(Outcome.EXCEEDED, code=99), JobLimitExceeded, "beyond a limit"),
        (ended(77), JobBroken, "outcome 77.*upgrade"),
        (ended(Outcome.RETURNED, b"short"), JobBroken, "arrived damaged: a result of 5 bytes is cut off"),
        (ended(Outcome.RETURNED, b"x" * 40), JobBroken, "arrived damaged"),
    ],
)
def test_jobs_without_a_result(result: JobResult, kind: type[Exception], said: str) -> None:
    end = decode_end(result, WHERE)
    with pytest.raises(kind, match=said):
        raise end.error or AssertionError
    assert type(end.error) is kind
    assert end.exception == str(end.error)
    assert end.value is None
    assert getattr(end.error, "exit_code", result.code) == result.code


@pytest.mark.parametrize("limit", Limit)
def test_which_limit_it_was_has_the_name_that_users_gave_it_by(limit: Limit) -> None:
    error = decode_end(ended(Outcome.EXCEEDED, code=limit), WHERE).error
    assert isinstance(error, JobLimitExceeded)
    assert error.limit == limit.name.lower()
    assert error.limit in inspect.signature(Submitting.options).parameters


def test_output_so_far_is_kept_but_a_job_that_never_ran_has_none() -> None:
    body = ResultBody(stdout=b"half")
    assert decode_end(ended(Outcome.CANCELLED, body), WHERE).stdout == b"half"
    assert decode_end(ended(Outcome.CANCELLED, started=0.0), WHERE).stdout is None


def test_a_result_whose_module_is_missing() -> None:
    module = ModuleType("only_at_the_node")
    exec("class C: pass", module.__dict__)
    sys.modules["only_at_the_node"] = module
    try:
        data = pickle.dumps(module.C())
    finally:
        del sys.modules["only_at_the_node"]
    with pytest.raises(
        JobBroken, match="module 'only_at_the_node', which is not installed at the client; install it"
    ):
        load_value(data)


def test_a_result_whose_class_is_missing() -> None:
    data = pickle.dumps(pickle.Unpickler).replace(b"Unpickler", b"Unfindler")
    with pytest.raises(
        JobBroken, match=r"'_pickle.Unfindler' is not known at the client .*define it there too"
    ):
        load_value(data)


def test_a_result_whose_own_code_fails() -> None:
    data = cloudpickle.dumps(NeedsTwo(1, 2))
    with pytest.raises(JobBroken, match=r"cannot be loaded here \(TypeError: .*return plain data"):
        load_value(data)
    end = decode_end(ended(Outcome.RETURNED, ResultBody(data, stdout=b"said")), WHERE)
    assert isinstance(end.error, JobBroken)
    assert end.stdout == b"said"
    assert end.exception == str(end.error)


# ---- without pickle


def test_a_safe_result() -> None:
    end = decode_end(ended(Outcome.RETURNED, ResultBody(encode((1, {2})), b"", b"out")), WHERE, safe=True)
    assert (end.value, end.stdout, end.exception, end.error) == ((1, {2}), b"out", None, None)


def test_a_safe_exception() -> None:
    value = encode_exception(KeyError("k"))
    end = decode_end(ended(Outcome.RAISED, ResultBody(value, b"the traceback")), WHERE, safe=True)
    assert (type(end.error), end.error.args, end.exception) == (KeyError, ("k",), "the traceback")
    assert isinstance(end.error.__cause__, RemoteTraceback)
    assert end.error.__notes__ == ["job 3, attempt 2, at node node1 (10.0.0.1)"]


def test_an_exception_that_has_only_its_text() -> None:
    end = decode_end(ended(Outcome.RAISED, ResultBody(b"", b"the traceback")), WHERE, safe=True)
    assert (type(end.error), str(end.error), end.exception) == (JobRaised, "the traceback", "the traceback")


def test_a_program_has_no_result_that_could_be_unsafe() -> None:
    assert decode_end(ended(Outcome.EXITED, ResultBody(stdout=b"x"), code=3), WHERE, safe=True).value == 3


class Bomb:
    exploded = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Bomb, "exploded", True)


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_pickle_of_a_rogue_node_is_loaded(
    outcome: Outcome, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("something is unpickled")

    bomb = pickle.dumps(Bomb(), protocol)
    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    end = decode_end(ended(outcome, ResultBody(bomb, bomb, bomb, bomb)), WHERE, safe=True)
    assert not Bomb.exploded
    assert end.stdout == bomb
    if outcome in (Outcome.RETURNED, Outcome.RAISED):
        assert type(end.error) is JobBroken
        assert "sent something that is not a safe result" in str(end.error)
        assert end.exception == str(end.error)
        assert end.error.__notes__ == ["job 3, attempt 2, at node node1 (10.0.0.1)"]
    assert end.value is None or outcome == Outcome.EXITED
