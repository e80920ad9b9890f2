"""The children that live, each in its own process; the loop is played by the scripts."""

from __future__ import annotations

FAMILY = """
from dispy_node.runner.family import *
from dispy_node.runner.family import CHANNEL, STDOUT, STDERR, NEVER, SWEEP_S

gone = []
settings = Settings({"folder": ".", "spool": ".", "node": "there"})
libc, poll, strangers = Libc(), open_poll(), Strangers()
nursery = Nursery(settings, Computation(len, {}), libc, poll, (poll.fileno(), strangers.fileno()), True)
family = Family(nursery, poll, strangers, lambda child, code: gone.append((child.pid, code)))

def reap_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        family.tick(time.monotonic())
"""


def test_a_child_is_in_the_books_from_its_fork_to_its_end(run_pool) -> None:
    told = run_pool(
        FAMILY
        + """
told = [family.empty, family.due_at(any_busy=False) == NEVER]
child, other = family.fork(2)
told.append([family.find(end) for end in (child.channel, child.stdout, child.stderr)]
            == [(child, CHANNEL), (child, STDOUT), (child, STDERR)])
told += [family.find(999), family.empty]
family.dismiss(child)
told += [child.leaving, child.channel, family.due_at(any_busy=False) <= time.monotonic()]
reap_until(lambda: gone)
told += [gone == [(child.pid, 0)], family.empty]
family.signal(child, 9)  # its number is nobody's
family.kill_all()
reap_until(lambda: family.empty)
told.append(gone[1:] == [(other.pid, -9)])
"""
    )
    assert told == [True, True, True, None, False, True, -1, True, True, False, True]


def test_closing_twice_closes_nothing_that_is_somebody_elses(run_pool) -> None:
    told = run_pool(
        FAMILY
        + """
(child,) = family.fork(1)
family.watch_output(child)
family.close(child)
ends = os.pipe()
family.close(child)
os.write(ends[1], b"open")
told = [os.read(ends[0], 9).decode(), poll.poll(0)]
family.kill_all()
reap_until(lambda: family.empty)
"""
    )
    assert told == ["open", []]


def test_what_is_not_registered_can_be_watched_and_forgotten(run_pool) -> None:
    told = run_pool(
        FAMILY
        + """
(child,) = family.fork(1)
family.forget(child.channel)
family.forget(child.channel)
family.watch(child, 4)
told = [poll.poll(1) == [(child.channel, 4)]]
family.kill_all()
reap_until(lambda: family.empty)
"""
    )
    assert told == [True]


def test_it_is_looked_less_and_less_often_for_an_end_that_does_not_come(run_pool) -> None:
    told = run_pool(
        FAMILY
        + """
(child,) = family.fork(1)
family.expect_end(child)
pauses = []
for _ in range(12):
    before = time.monotonic()
    family.reap()
    pauses.append(family.due_at(any_busy=False) - before)
told = [pauses[0] < 0.1, SWEEP_S <= pauses[-1] < SWEEP_S + 0.1]
family.kill_all()
reap_until(lambda: family.empty)
"""
    )
    assert told == [True, True]
