"""Jobs that are runs of Java, planned for a Java that is made of one file and another that describes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dispy.errors import UsageError
from dispy.interfaces import ExecutorRequest
from dispy_node.java import JavaExecutor
from dispy_testing.contracts.executors import check_executor

Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a Java, found by JAVA_HOME; return its path."""

    def make(release: str | None = 'JAVA_VERSION="17.0.15"\nMODULES="java.base jdk.compiler"\n') -> str:
        home = tmp_path / "jvm"
        (home / "bin").mkdir(parents=True)
        (home / "bin" / "java").touch(mode=0o755)
        if release is not None:
            (home / "release").write_text(release)
        monkeypatch.setenv("JAVA_HOME", str(home))
        return str(home / "bin" / "java")

    return make


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[[str], ExecutorRequest]:
    """Make a request for a program that has arrived."""
    folder = tmp_path / "folder"
    folder.mkdir()

    def make(name: str) -> ExecutorRequest:
        (folder / name).touch()
        return ExecutorRequest(name=name, folder=folder, isolation="process")

    return make


Request = Callable[[str], ExecutorRequest]


def test_archives_and_sources(install: Install, request_for: Request) -> None:
    java = install()
    request = request_for("Main.java")
    folder = str(request.folder)
    path = ["--class-path", f"{folder}:{folder}/*"]
    assert JavaExecutor().plan(request).program == [java, *path, f"{folder}/Main.java"]
    assert JavaExecutor().plan(request_for("main.JAR")).program == [java, "-jar", f"{folder}/main.JAR"]
    assert JavaExecutor().plan(request).environment["PATH"].startswith(f"{folder}:")


def test_source_whose_name_ends_in_capitals_is_called_source(install: Install, request_for: Request) -> None:
    install()
    assert JavaExecutor().plan(request_for("MAIN.JAVA")).program[3:5] == ["--source", "17"]


def test_it_keeps_the_contract(install: Install, request_for: Request, tmp_path: Path) -> None:
    install()
    gone = ExecutorRequest(name="Gone.java", folder=tmp_path, isolation="process")
    check_executor(JavaExecutor, [request_for("a.jar"), request_for("B.java")], [gone])


def test_java_is_found_on_the_path_too(
    install: Install, request_for: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = install()
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(Path(java).parent))
    assert JavaExecutor().plan(request_for("a.jar")).program[0] == java


@pytest.mark.parametrize(
    ("home", "where"), [("", "on its PATH"), ("/nowhere", "in its JAVA_HOME, '/nowhere'")]
)
def test_node_without_java(
    request_for: Request, monkeypatch: pytest.MonkeyPatch, home: str, where: str
) -> None:
    monkeypatch.setenv("JAVA_HOME", home)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        UsageError, match=f"'a.jar' needs Java, which the node has not {where}: install a JDK"
    ):
        JavaExecutor().plan(request_for("a.jar"))


@pytest.mark.parametrize(
    ("release", "why"),
    [
        ('JAVA_VERSION="1.8.0_402"\n', "Java 1.8.0_402 of the node cannot run; 11 or newer can"),
        ('JAVA_VERSION="17"\nMODULES="java.base"\n', "has no compiler"),
    ],
)
def test_java_that_cannot_run_sources_runs_archives(
    install: Install, request_for: Request, release: str, why: str
) -> None:
    install(release)
    with pytest.raises(UsageError, match=why):
        JavaExecutor().plan(request_for("Main.java"))
    assert "-jar" in JavaExecutor().plan(request_for("a.jar")).program


@pytest.mark.parametrize("release", [None, "", 'JAVA_VERSION="early"\n'])
def test_unusual_java_is_given_a_chance(install: Install, request_for: Request, release: str | None) -> None:
    install(release)
    assert "--source" not in JavaExecutor().plan(request_for("MAIN.JAVA")).program
