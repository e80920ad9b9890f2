from __future__ import annotations

import math

from dispy_cli.wording import in_options, while_waiting, why_given_up

EXPLANATION = """no usable node for 'p' yet; its jobs wait
  far:51348: refused
  what to do: name others with nodes=[...]; nodes=["local"] uses this machine alone"""


def test_parameters_become_options() -> None:
    assert in_options('a nodes=["local"] b nodes=[...] c') == "a -n local b -n NODE c"
    assert in_options("by secret=dispy.OPEN") == "by --open"


def test_why_it_waits_is_told_once_where_it_gives_up() -> None:
    told = while_waiting(EXPLANATION, 10.0)
    assert told == "no usable node yet; giving up after 10 s in all (see --wait-nodes)"
    assert "its jobs wait" in while_waiting(EXPLANATION, math.inf)
    assert "nodes=" not in while_waiting(EXPLANATION, math.inf)


def test_other_news_keep_their_words() -> None:
    assert while_waiting("node n is lost", 10.0) == "node n is lost"


def test_final_text_does_not_say_that_jobs_wait() -> None:
    assert why_given_up(EXPLANATION, 4.0) == (
        "no usable node within 4 s, so no job was run:\n  far:51348: refused\n"
        "  what to do: name others with -n NODE; -n local uses this machine alone"
    )
    assert why_given_up("nobody", 4.0) == "no usable node within 4 s: nobody"
