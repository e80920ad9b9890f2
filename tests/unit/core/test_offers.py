from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dispy.errors import PluginConflict, PluginError, PluginNotInstalled
from dispy.hookspecs import hookimpl
from dispy.interfaces import API_VERSION, FaultPolicy, LostAttempt, Verdict
from dispy.offers import Offers, told
from dispy.plugged import Plugged


class Once(FaultPolicy):
    NAME = "once"
    API_VERSION = API_VERSION
    HONOURS_REENTRANT = True

    def decide(self, lost: LostAttempt) -> Verdict:
        return Verdict.ABANDON


class Twice(Once):
    NAME = "twice"


class OtherOnce(Once):
    """Another class of the same name."""


class Old(Once):
    API_VERSION = API_VERSION - 1


class Nameless(Once):
    NAME = ""


class Unfinished(FaultPolicy):
    NAME = "unfinished"
    API_VERSION = API_VERSION
    HONOURS_REENTRANT = False


class Sick(Once):
    NAME = "sick"

    def __init__(self) -> None:
        raise RuntimeError("bad day")


def plugin(name: str, answer: Callable[[], Any]) -> Plugged:
    class Content:
        @hookimpl
        def dispy_register_fault_policy(self) -> Any:
            return answer()

    plugged = Plugged(name, f"dispy-{name}", "1.0")
    plugged.attach(Content())
    return plugged


def offers(*plugins: Plugged) -> Offers[FaultPolicy]:
    return Offers("fault policy", "dispy_register_fault_policy", FaultPolicy, plugins)


def fail() -> None:
    raise ImportError("no module named 'quantum'")


def test_offers_are_found_by_name_and_made_once() -> None:
    found = offers(plugin("one", lambda: Once), plugin("more", lambda: [Twice]))
    assert found.names() == ["once", "twice"]
    assert type(found.get("once")) is Once
    assert found.get("once") is found.get("once")
    assert found.origin("twice").name == "more"


def test_a_plugin_may_offer_nothing_or_several() -> None:
    assert offers(plugin("none", lambda: None), plugin("both", lambda: (Once, Twice))).names() == [
        "once",
        "twice",
    ]


def test_two_plugins_with_one_name_are_a_conflict_for_that_name_only() -> None:
    second = plugin("two", lambda: [OtherOnce, Twice])
    found = offers(plugin("one", lambda: Once), second)
    with pytest.raises(
        PluginConflict, match=r"both plugin 'one' of dispy-one 1\.0 and plugin 'two' of dispy-two 1\.0"
    ):
        found.get("once")
    assert found.names() == ["twice"]
    assert type(found.get("twice")) is Twice
    assert second.errors


def test_the_same_class_twice_is_no_conflict() -> None:
    assert type(offers(plugin("one", lambda: Once), plugin("two", lambda: Once)).get("once")) is Once


def test_another_version_of_the_interface_is_a_conflict() -> None:
    old = plugin("old", lambda: Old)
    with pytest.raises(
        PluginConflict, match=f"written for version {API_VERSION - 1} of the interface, and this dispy"
    ):
        offers(old).get("once")
    assert type(offers(old, plugin("new", lambda: Once)).get("once")) is Once


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: Once(), "which is not a subclass of FaultPolicy"),
        (lambda: dict, "which is not a subclass of FaultPolicy"),
        (lambda: Nameless, "gave Nameless, which has no NAME"),
        (fail, "dispy_register_fault_policy failed: ImportError: no module named 'quantum'"),
    ],
    ids=["instance", "class", "nameless", "raises"],
)
def test_a_wrong_answer_sets_the_plugin_aside_and_no_other(answer: Callable[[], Any], message: str) -> None:
    wrong = plugin("wrong", answer)
    found = offers(wrong, plugin("right", lambda: Once))
    assert found.names() == ["once"]
    assert len(wrong.errors) == 1
    assert message in wrong.errors[0]


@pytest.mark.parametrize(("name", "cause"), [("sick", "RuntimeError: bad day"), ("unfinished", "decide")])
def test_an_offer_that_cannot_be_made(name: str, cause: str) -> None:
    with pytest.raises(
        PluginError, match=f"the fault policy '{name}' of plugin 'bad' .* cannot be made: .*{cause}"
    ):
        offers(plugin("bad", lambda: [Sick, Unfinished])).get(name)


def test_a_known_name_that_is_not_installed_tells_the_extra() -> None:
    with pytest.raises(PluginNotInstalled) as caught:
        offers().get("rerun")
    assert caught.value.extra == "std"
    assert "the fault policy 'rerun' is not installed" in str(caught.value)


def test_an_unknown_name_tells_what_is_there_and_what_is_broken() -> None:
    broken = plugin("broken", fail)
    with pytest.raises(PluginError) as caught:
        offers(plugin("one", lambda: Once), broken).get("thrice")
    text = str(caught.value)
    assert (
        "no installed plugin offers the fault policy 'thrice' (there: once; not usable: plugin 'broken'"
        in text
    )
    assert "dispy plugins" in text


def test_a_name_that_a_broken_plugin_goes_by_tells_what_is_wrong_with_it() -> None:
    with pytest.raises(
        PluginError, match=r"plugin 'rerun' of dispy-rerun .* cannot be used: .*no module named 'quantum'"
    ):
        offers(plugin("rerun", fail)).get("rerun")


def test_told() -> None:
    assert told(ValueError("bad")) == "ValueError: bad"
