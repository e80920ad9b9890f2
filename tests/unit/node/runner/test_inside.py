"""Names that jobs find, and what is behind them."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import types
from typing import Any

import pytest

from dispy.inside import RUNNER_NAME
from dispy_node.runner.inside import MAIN_NAME, MODULES, Inside, LateModule, NotSent


class Speaker:
    """Takes what jobs tell."""

    def __init__(self, answer: bool | Exception = True) -> None:
        self.told: list[Any] = []
        self.answer = answer

    def tell_result(self, value: object) -> bool:
        self.told.append(value)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    tell_file = tell_result

    def say(self, level: int, text: str) -> bool:
        self.told.append((level, text))
        return bool(self.answer)


@pytest.fixture
def inside(settings: Any) -> Inside:
    return Inside(settings)


def test_names(inside: Inside, settings: Any) -> None:
    names = inside.names()
    assert MAIN_NAME == RUNNER_NAME
    assert names[MAIN_NAME] is inside
    told = (names["dispy_node_name"], names["dispy_node_ip_addr"], names["dispy_job_path"])
    assert told == (settings.node, settings.address, settings.folder)
    assert all(isinstance(names[name], types.ModuleType) for name in MODULES)
    assert names["sys"] is sys
    assert not {"random", "json", "math"} & set(names)
    assert names["pycos"] is None


@pytest.mark.parametrize(("answer", "status"), [(True, 0), (False, -1), (NotSent("no room"), -1)])
def test_statuses(
    inside: Inside, answer: bool | Exception, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    speaker = inside.speaker = Speaker(answer)
    assert inside.provisional_result(5) == status
    assert inside.send_file("x") == status
    assert speaker.told == [5, "x"]
    assert ("no room" in capsys.readouterr().err) == isinstance(answer, NotSent)


def test_without_a_job_there_is_nobody_to_tell(inside: Inside) -> None:
    with pytest.raises(RuntimeError, match="while no job runs"):
        inside.provisional_result(1)


def test_node_ends_only_by_cleanup(inside: Inside) -> None:
    shutdown = inside.names()["dispynode_shutdown"]
    with pytest.raises(RuntimeError, match="works in cleanup only"):
        shutdown()
    told: list[str] = []
    inside.ask_end = lambda: told.append("end")
    shutdown()
    assert told == ["end"]


def test_logger(inside: Inside, capsys: pytest.CaptureFixture[str]) -> None:
    speaker = inside.speaker = Speaker()
    inside.logger.warning("%d left", 3)
    inside.logger.debug("unheard")
    assert speaker.told == [(logging.WARNING, "3 left")]
    speaker.answer = False
    inside.logger.error("from a child")
    assert capsys.readouterr().err == "from a child\n"
    with pytest.raises(TypeError, match="cannot be sent"):
        pickle.dumps(inside.logger)


def test_module_is_imported_when_it_is_used_first(monkeypatch: pytest.MonkeyPatch) -> None:
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    late = LateModule("colorsys")
    main.__dict__["colorsys"] = late
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    assert callable(late.rgb_to_hsv)
    assert main.__dict__["colorsys"] is sys.modules["colorsys"]
    assert pickle.loads(pickle.dumps(late)) is sys.modules["colorsys"]


def test_nothing_is_imported_before_it_is_needed() -> None:
    code = """
import sys
from dispy_node.runner.inside import Inside
from dispy_node.runner.settings import Settings
Inside(Settings({"folder": "/", "spool": "/"})).names()
print([name for name in ("logging", "hashlib", "subprocess", "dispy", "threading", "trio") if name in sys.modules])
"""
    # Without site, whose .pth files may import anything.
    paths = ":".join(filter(None, sys.path))
    told = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "[]\n"
