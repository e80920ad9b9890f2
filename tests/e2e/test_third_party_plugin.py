"""The example plugin, installed as a distribution of its own into an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "plugins" / "dispy-transport-unix"

PROGRAM = """
import sys
import dispy

def compute(number):
    return number + 1

if __name__ == "__main__":
    with dispy.JobCluster(compute, nodes=["unix:" + sys.argv[1]]) as cluster:
        print([cluster.submit(number)() for number in range(3)])
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an interpreter that sees everything of this environment, and the plugin on top."""
    folder = tmp_path_factory.mktemp("plugin-environment")
    venv.create(folder, with_pip=False, system_site_packages=False)
    installed = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--no-build-isolation", "--target", str(folder / "plugin"), str(PLUGIN)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode:
        pytest.fail(f"the example plugin cannot be installed: {installed.stderr}")
    packages = next(folder.glob("lib*/python*/site-packages"))
    # The outer environment's packages, with the .pth files of its editable installs, and then the plugin.
    outer = [path for path in sys.path if path.endswith("site-packages")]
    lines = [f"import site; site.addsitedir({path!r})" for path in [*outer, str(folder / "plugin")]]
    (packages / "outer.pth").write_text("\n".join(lines) + "\n")
    return folder / "bin" / "python"


@pytest.fixture
def socket_path(python: Path, tmp_path: Path) -> Iterator[Path]:
    """Run a node that listens on a Unix socket only."""
    path = tmp_path / "node.sock"
    node = subprocess.Popen(
        [
            python,
            "-m",
            "dispy_node",
            "-i",
            f"unix:{path}",
            "-c",
            "1",
            "--dest-path-prefix",
            str(tmp_path / "state"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert node.stderr is not None
    log = ""
    for line in node.stderr:
        log += line
        if "listens on" in line:
            break
    else:
        pytest.fail(f"the node ended: {log}")
    yield path
    node.terminate()
    node.wait(20)
    node.stderr.close()


def test_jobs_run_over_a_transport_of_somebody_else(python: Path, socket_path: Path, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [python, script, socket_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "[1, 2, 3]", done.stderr


def test_it_is_listed_among_the_plugins(python: Path) -> None:
    done = subprocess.run(
        [python, "-m", "dispy_cli", "plugins"], capture_output=True, text=True, timeout=60, check=False
    )
    assert "dispy-transport-unix" in done.stdout, done.stdout + done.stderr


def test_it_passes_the_contract_suite_by_its_own_tests(python: Path) -> None:
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PLUGIN / "tests")],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=PLUGIN,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_it_the_error_says_what_is_missing(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, script, tmp_path / "nobody"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "no installed plugin offers the transport 'unix'" in done.stderr
