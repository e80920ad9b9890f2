"""The greeting of this installation."""

from __future__ import annotations

import platform

import dispy
from dispy.model import PythonVersion, Role
from dispy.runtime.greeting import make_hello


def test_it_tells_versions_and_what_it_was_given() -> None:
    hello = make_hello(Role.NODE, "0" * 32, name="here", epoch=3, cpus=2, addresses=("127.0.0.1",))
    assert hello.version == dispy.__version__
    python = PythonVersion.parse(hello.python)
    assert [python.major, python.minor] == [int(part) for part in platform.python_version_tuple()[:2]]
    assert (hello.role, hello.name, hello.epoch, hello.cpus, hello.addresses) == (
        "node",
        "here",
        3,
        2,
        ["127.0.0.1"],
    )
