"""Programs as jobs: what they find, what they tell while they run, Java, and their end with all that they started."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dispy

Make = Callable[..., dispy.JobCluster]

TELLS = """\
#!/bin/sh
mkdir -p "$1" && cd "$1" || exit 9
dispy-job result "$1: begun" || exit 8
head -c 200000 /dev/zero | dispy-job result - || exit 7
echo "content of $1" > out.txt
dispy-job send-file out.txt || exit 6
dispy-job send-file missing
echo "status $?"
touch .hidden; dispy-job send-file .hidden
echo "status $?"
exit 3
"""

FINDS = """\
#!/bin/sh
echo "$#:$1:$2:$3:$4"
echo "$dispy_node_ip_addr"
test "$PWD" = "$dispy_job_path" && echo here
test -n "$dispy_node_name" && echo named
case $PATH in "$dispy_job_path":*) echo found;; esac
beside.sh
"""

LEAVES = """\
#!/bin/sh
setsid sleep 600 > /dev/null 2>&1 &
echo begun
dispy-job result $!
wait
"""

JAVA = """\
import java.nio.file.*;

public class Main {
    public static void main(String[] words) throws Exception {
        System.out.println(String.join("|", words) + " " + Files.readString(Path.of("data.txt")));
        Process told = new ProcessBuilder("dispy-job", "result", "from Java").inheritIO().start();
        System.exit(5 + told.waitFor());
    }
}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The client's working directory."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def cluster_of(node: Any, home: Path) -> Iterator[Make]:
    """Make clusters on one node; they are closed with the test."""
    clusters: list[dispy.JobCluster] = []

    def make(program: str, **options: Any) -> dispy.JobCluster:
        clusters.append(dispy.JobCluster(program, nodes=[node.address], **options))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close(timeout=0, terminate=True)


def write_program(name: str, text: str) -> str:
    Path(name).write_text(text)
    Path(name).chmod(0o755)
    return name


def test_programs_send_results_and_files(cluster_of: Make, home: Path) -> None:
    seen: list[tuple[Any, Any]] = []
    cluster = cluster_of(
        write_program("tells.sh", TELLS), job_status=lambda job: seen.append((job.id, job.result))
    )
    jobs = [cluster.submit_job_id(name, name) for name in ("one", "two")]
    for job in jobs:
        assert list(job.stream(timeout=60)) == [f"{job.id}: begun", bytes(200_000)]
        assert (job(), job.stdout) == (3, b"status 1\nstatus 1\n"), job.stderr
        assert b"file 'missing' cannot be sent: No such file" in job.stderr
        assert b"the client has not taken file '.hidden'" in job.stderr
        assert (home / job.id / "out.txt").read_text() == f"content of {job.id}\n"
    assert cluster.wait(timeout=60)
    assert [value for name, value in seen if name == "one"] == ["one: begun", bytes(200_000), 3]
    # No pickle is taken from nodes then, which programs never send, and no file either.
    safe = cluster_of("tells.sh", results="safe").submit("safe")
    assert next(safe.stream(timeout=60)) == "safe: begun"
    assert safe() == 6


def test_programs_find_their_arguments_and_surroundings(cluster_of: Make) -> None:
    beside = write_program("beside.sh", "#!/bin/sh\necho beside\n")
    job = cluster_of(write_program("finds.sh", FINDS), depends=[beside]).submit(7, 1.5, "a  b", None)
    assert job() == 0, job.stderr
    assert job.stdout == b"4:7:1.5:a  b:None\n127.0.0.1\nhere\nnamed\nfound\nbeside\n"


def test_cancelled_program_ends_with_its_grandchildren(cluster_of: Make, eventually: Any) -> None:
    cluster = cluster_of(write_program("leaves.sh", LEAVES))
    job = cluster.submit()
    grandchild = int(next(job.stream(timeout=60)))
    assert Path(f"/proc/{grandchild}").exists()
    cluster.cancel(job)
    assert job() is None
    assert (job.status, job.stdout) == (dispy.DispyJob.Terminated, b"begun\n")
    eventually(lambda: not Path(f"/proc/{grandchild}").exists(), "what it has left behind has ended")


def test_java_sources_and_archives(cluster_of: Make, home: Path) -> None:
    if shutil.which("javac") is None:
        pytest.skip("needs a JDK: apt-get install default-jdk-headless")
    Path("Main.java").write_text(JAVA)
    Path("data.txt").write_text("content")
    source = cluster_of("Main.java", depends=["data.txt"]).submit("a b", 2)
    subprocess.run(["javac", "Main.java"], check=True)
    with zipfile.ZipFile("main.jar", "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "Main-Class: Main\n")
        archive.write("Main.class")
    for job in (source, cluster_of("main.jar", depends=["data.txt"]).submit("a b", 2)):
        assert list(job.stream(timeout=120)) == ["from Java"], job.exception
        assert (job(), job.stdout) == (5, b"a b|2 content\n"), job.stderr


def test_node_without_java_says_so(
    start_node: Any, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(home))
    Path("Main.java").write_text(JAVA)
    with dispy.JobCluster("Main.java", nodes=[start_node().address]) as cluster:
        job = cluster.submit()
        assert job() is None
        assert "needs Java, which the node has not in its JAVA_HOME" in str(job.exception)
    assert "install a JDK" in capfd.readouterr().err


def test_commands_of_one_job_may_tell_things_at_the_same_time(cluster_of: Make, home: Path) -> None:
    program = home / "many.sh"
    program.write_text(
        "#!/bin/sh\n"
        "for n in 1 2 3 4 5 6; do\n"
        '    echo "$n" > "f$n"; dispy-job send-file "f$n" & head -c 99999 /dev/zero | dispy-job result - &\n'
        "done; wait\n"
    )
    program.chmod(0o755)
    job = cluster_of(str(program)).submit()
    told = list(job.stream())
    assert job() == 0, job.stderr
    assert len(told) == 6
    assert [(home / f"f{number}").read_text() for number in range(1, 7)] == [f"{n}\n" for n in range(1, 7)]
