"""Bodies count as long as anybody refers to them."""

from __future__ import annotations

import gc
import pickle
import threading

import pytest

from dispy.runtime.holding import HeldBody, ResultMemory


def test_body_counts_until_it_is_gone() -> None:
    memory = ResultMemory(1000)
    account = memory.account("node")
    body = HeldBody(account)
    assert body.add(b"x" * 300, besides=20)
    assert (memory.held_bytes, account.held, bytes(body)) == (320, 320, b"x" * 300)
    view = memoryview(body)
    del body
    gc.collect()
    assert memory.held_bytes == 320  # somebody still looks at it
    del view
    gc.collect()
    assert (memory.held_bytes, account.held) == (0, 0)


def test_what_does_not_fit_is_left_out() -> None:
    memory = ResultMemory(1000)
    body = HeldBody(memory.account("node"))
    assert body.add(bytes(400))
    assert not body.add(bytes(101))
    assert len(body) == memory.held_bytes == 400
    body.drop()
    assert (len(body), memory.held_bytes) == (0, 0)
    del body
    assert memory.held_bytes == 0  # and not given back twice


def test_one_node_cannot_shut_out_the_others() -> None:
    memory = ResultMemory(1000)
    greedy = HeldBody(memory.account("greedy"))
    while greedy.add(b"x"):
        pass
    assert len(greedy) == 500
    assert HeldBody(memory.account("other")).add(bytes(200))


def test_same_owner_has_the_same_account() -> None:
    """A node that comes back must not get another share."""
    memory = ResultMemory(1000)
    body = HeldBody(memory.account("node"))
    assert body.add(bytes(500))
    assert memory.account("node").room() == 0


def test_trusted_node_may_fill_all() -> None:
    memory = ResultMemory(1000)
    body = HeldBody(memory.account("own child", trusted=True))
    assert body.add(bytes(1000))
    assert not body.add(b"x")


@pytest.mark.parametrize("count", [200])
def test_bodies_may_go_in_any_thread(count: int) -> None:
    memory = ResultMemory(1 << 20)
    bodies = [HeldBody(memory.account(number % 3)) for number in range(count)]
    for body in bodies:
        assert body.add(bytes(100))
    body = None

    def forget(part: list[HeldBody]) -> None:
        part.clear()

    parts = [bodies[start::4] for start in range(4)]
    bodies.clear()
    threads = [threading.Thread(target=forget, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory.held_bytes == 0


def test_body_is_read_like_bytes() -> None:
    body = HeldBody(ResultMemory(1000).account(None))
    assert body.add(pickle.dumps({"a": 1}))
    assert pickle.loads(memoryview(body)) == {"a": 1}
