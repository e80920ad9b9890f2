"""What a peer says does not act on the terminal on which a log is read, and does not look like a line of ours."""

from __future__ import annotations

from typing import Any

from attackers import Intruder, changed, greeting, own_credential

from dispy.wire import messages as msg

EVIL = "\x1b[2J\x1b]0;title\x07\nINFO client root at 10.0.0.1 connected\u202e"
SHOWN = "?[2J?]0;title? INFO client root at 10.0.0.1 connected?"


def test_greeting_and_farewell_in_the_log(victim: Any) -> None:
    hello = changed(greeting(), name=EVIL, version=EVIL, platform=EVIL, addresses=[EVIL])
    with Intruder(victim.port, own_credential(), hello) as link:
        link.hear_kind(msg.Hello)
        link.tell(msg.Goodbye(EVIL))
        victim.wait_for(r"client \?\[2J.* left: \?\[2J.*\n {4}INFO client root")
    assert f"client {SHOWN} at 127.0.0.1 connected (" in victim.log
    assert f"dispy {SHOWN})" in victim.log
    assert_clean(victim.log)
    victim.check()


def test_greetings_that_are_refused(victim: Any) -> None:
    for hello in (
        changed(greeting(), role=EVIL),
        changed(greeting(), ident=EVIL),
        changed(greeting(), name=EVIL, version=EVIL, protocol_min=90, protocol_max=91),
    ):
        with Intruder(victim.port, own_credential(), hello) as link:
            assert_clean(link.farewell())
    victim.read_log()
    assert victim.log.count("refused: ") >= 3
    assert_clean(victim.log)


def assert_clean(text: str) -> None:
    assert all(line.isprintable() for line in text.split("\n"))
    assert not any(line.startswith("INFO client root") for line in text.split("\n"))
