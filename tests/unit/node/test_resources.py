"""What the owner of a node says of its resources, and what jobs see of them."""

from __future__ import annotations

import pytest

from dispy.errors import UsageError
from dispy_node.engine.records import Grant
from dispy_node.resources import granted_variables, parse_resources, plain_variables


def test_count_and_items() -> None:
    assert parse_resources(["gpu=2", "port=8001,8002", "license=a,"]) == {
        "gpu": ("0", "1"),
        "port": ("8001", "8002"),
        "license": ("a",),
    }
    assert parse_resources([]) == {}


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["gpu"], "neither a count nor items"),
        (["=2"], "names no resource"),
        (["cpu=2"], "set by --cpus"),
        (["gpu=0"], "no count from 1"),
        (["gpu=1025"], "no count from 1"),
        (["gpu=" + "9" * 5000], "no count from 1"),
        (["gpu=a"], "for one item"),
        (["gpu=a;b,"], "for one item"),
        (["gpu=0,,1"], "for one item"),
        (["gpu=0,0"], "twice"),
        (["gpu=1", "gpu=2"], "again"),
        (["g p=1"], "names no resource"),
    ],
)
def test_what_cannot_be_right_is_told(texts: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_resources(texts)


def test_variables_of_jobs() -> None:
    assert plain_variables({}) == {"DISPY_CPUS": "1", "DISPY_RESOURCES": ""}
    assert plain_variables({"gpu": ("0",)}) == {
        "DISPY_CPUS": "1",
        "DISPY_RESOURCES": "",
        "CUDA_VISIBLE_DEVICES": "",
        "HIP_VISIBLE_DEVICES": "",
    }
    assert granted_variables(Grant(4)) == {"DISPY_CPUS": "4"}
    assert granted_variables(Grant(1, items=(("port", ("8001",)), ("gpu", ("0", "3"))))) == {
        "DISPY_CPUS": "1",
        "DISPY_RESOURCES": "gpu=0,3;port=8001",
        "CUDA_VISIBLE_DEVICES": "0,3",
        "HIP_VISIBLE_DEVICES": "0,3",
    }
