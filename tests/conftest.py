"""What all tests share: keys of their own, loopback only, real nodes, what watches them, and how hard Hypothesis tries.

``DISPY_HYPOTHESIS=deep`` (the nox session ``property_deep``) tries many more examples than the default, ``fast``.
In CI the fast profile draws the same examples each time, so that a red run is about the change and not about luck;
elsewhere it draws new ones.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Keys that tests make, and those of processes that they start, never mix with the user's.
os.environ["DISPY_CONFIG_DIR"] = tempfile.mkdtemp(prefix="dispy-tests-")
atexit.register(shutil.rmtree, os.environ["DISPY_CONFIG_DIR"], ignore_errors=True)

# Nothing that tests send in search of nodes leaves this machine.
os.environ["DISPY_INTERFACES"] = "lo"

pytest_plugins = ("watching", "real_nodes", "namespaces")  # in tests/support


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share whole folders of tests among processes; most of those with real nodes wait, hence one more than cores.

    Tests of one file run in this process, so that a debugger and prints work.
    """
    if any(Path(argument.split("::")[0]).is_file() for argument in config.args):
        return 0
    return (os.cpu_count() or 1) + 1


settings.register_profile(
    "fast",
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    database=None if os.environ.get("CI") else settings().database,
    suppress_health_check=[HealthCheck.too_slow],  # a busy machine says nothing about the code
    print_blob=True,
)
settings.register_profile("brief", settings.get_profile("fast"), max_examples=5)
settings.register_profile(
    "deep",
    max_examples=5000,
    stateful_step_count=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile(os.environ.get("DISPY_HYPOTHESIS", "fast"))
