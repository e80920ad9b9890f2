from __future__ import annotations

import pickle
import threading

import pytest

from dispy.errors import JobBroken
from dispy.partials import Partials, decode_partial


def test_what_came_before_and_what_comes_later_is_given_once_in_order() -> None:
    partials = Partials()
    partials.add(b"1")
    taken: list[bytes] = []
    reader = threading.Thread(target=lambda: taken.extend(partials.take(timeout=20)))
    reader.start()
    partials.add(b"2")
    partials.end()
    reader.join(20)
    assert taken == [b"1", b"2"]
    assert list(partials.take(timeout=0)) == []


def test_waiting_can_be_bounded() -> None:
    with pytest.raises(TimeoutError, match="within 0 s"):
        next(Partials().take(timeout=0))


def test_decoding() -> None:
    assert decode_partial(bytearray(pickle.dumps({"a": 1})), safe=False) == {"a": 1}
    with pytest.raises(JobBroken):
        decode_partial(b"rubbish", safe=False)
    with pytest.raises(JobBroken):
        decode_partial(pickle.dumps({"a": 1}), safe=True)
