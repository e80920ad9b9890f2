"""Names for jobs, outside of one and inside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from dispy import inside
from dispy import job as job_module
from dispy.errors import UsageError

CALLS: list[Callable[[], object]] = [
    lambda: inside.provisional_result(1),
    lambda: inside.send_file("x"),
    inside.node_name,
    inside.node_ip_addr,
    inside.job_path,
    inside.node_logger,
]


@pytest.mark.parametrize("call", CALLS)
def test_outside_of_a_job_each_says_so(call: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match="only while a job runs"):
        call()


def test_inside_of_a_job_all_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    there = SimpleNamespace(
        provisional_result=lambda value: ("result", value),
        send_file=lambda path: ("file", path),
        node_name="n",
        node_ip_addr="1.2.3.4",
        job_path="/p",
        logger="log",
    )
    monkeypatch.setattr(sys.modules["__main__"], inside.RUNNER_NAME, there, raising=False)
    assert [call() for call in CALLS] == [("result", 1), ("file", "x"), "n", "1.2.3.4", "/p", "log"]


def test_the_module_of_jobs_has_them_too_and_imports_no_trio() -> None:
    assert job_module.send_file is inside.send_file
    code = "import sys; from dispy.job import send_file, provisional_result; print('trio' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
