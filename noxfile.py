"""Sessions for developers and CI; `python3 dev run nox -l` lists them.

Each session has an environment of its own. What is quick enough to do all the time is in `python3 dev test`.
"""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import nox
from packaging.requirements import Requirement

ROOT = Path(__file__).parent
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
GROUPS = nox.project.load_toml("pyproject.toml")
PYTHONS = ["3.11", "3.12", "3.13"]

NOT_QUICK = ["--ignore=tests/e2e", "--ignore=tests/security", "--ignore=tests/docs"]

DEEP = {"DISPY_HYPOTHESIS": "deep", "DISPY_SIMULATION_RUNS": "10000"}

nox.needs_version = ">=2025.5"
nox.options.sessions = ["lint", "typecheck", "tests"]
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = False


def install_group(session: nox.Session, *names: str) -> None:
    """Install groups of the root pyproject.toml."""
    session.install(*(line for name in names for line in nox.project.dependency_groups(GROUPS, name)))


def install_packages(session: nox.Session, *options: str) -> None:
    """Install every package of the checkout, editable, with what it depends on."""
    install_group(session, "build")
    editable = [word for folder in PACKAGES for word in ("-e", str(folder))]
    session.install("--no-build-isolation", *options, *editable)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run all tests but those with real processes and sockets; arguments go to pytest."""
    install_packages(session)
    install_group(session, "test")
    session.run("pytest", *NOT_QUICK, *session.posargs)


@nox.session(python=PYTHONS[0])
def tests_minimum(session: nox.Session) -> None:
    """Run the same tests with the oldest releases that the packages say they work with."""
    oldest = Path(session.create_tmp()).resolve() / "oldest.txt"
    oldest.write_text("".join(f"{line}\n" for line in sorted(oldest_requirements())))
    install_packages(session, "--constraint", str(oldest))
    install_group(session, "test")
    session.run("pytest", *NOT_QUICK, *session.posargs)


def oldest_requirements() -> set[str]:
    """Return `name==version` for the lower bound of each dependency outside this checkout."""
    own = {folder: tomllib.loads((folder / "pyproject.toml").read_text())["project"] for folder in PACKAGES}
    names = {project["name"] for project in own.values()}
    found = set()
    for project in own.values():
        for requirement in map(Requirement, project.get("dependencies", [])):
            lower = [part.version for part in requirement.specifier if part.operator == ">="]
            if requirement.name not in names and lower:
                found.add(f"{requirement.name}=={lower[0]}")
    return found


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and layout; with `-- --fix`, mend what can be mended."""
    install_group(session, "lint")
    if "--fix" in session.posargs:
        session.run("ruff", "check", "--fix", ".")
        session.run("ruff", "format", ".")
    else:
        session.run("ruff", "check", ".")
        session.run("ruff", "format", "--check", ".")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Check the types of the packages, and of the tools of the repository."""
    install_packages(session)
    install_group(session, "types")
    session.install("nox")
    session.run("mypy")
    session.run("mypy", "noxfile.py", "scripts", "examples/demo.py")
    session.run("mypy", "--scripts-are-modules", "dev")


@nox.session
def property_deep(session: nox.Session) -> None:
    """Run the property tests with many more examples, and 10 000 simulated clusters, for hours if need be."""
    install_packages(session)
    install_group(session, "test")
    session.run("pytest", "-m", "hypothesis", *session.posargs, env=DEEP)


@nox.session(python=PYTHONS)
def e2e(session: nox.Session) -> None:
    """Run the tests with real processes and sockets."""
    install_packages(session)
    install_group(session, "test")
    session.run("pytest", "tests/e2e", "tests/security", "tests/network", *session.posargs)


@nox.session(python=PYTHONS[0])
def fuzz(session: nox.Session) -> None:
    """Fuzz each target under atheris; the argument is how many seconds each gets (default 30)."""
    seconds = int(session.posargs[0]) if session.posargs else 30
    install_packages(session)
    session.install("atheris>=3.0", "numpy")
    found = Path(session.create_tmp()).resolve()
    for target in sorted(path.name for path in (ROOT / "fuzz" / "corpus").iterdir()):
        new, crashes = found / target, found / f"{target}-crash-"
        new.mkdir(exist_ok=True)
        session.run(
            "python",
            f"fuzz/{target}.py",
            f"-max_total_time={seconds}",
            "-timeout=10",
            "-rss_limit_mb=1024",
            f"-artifact_prefix={crashes}",
            str(new),  # what is found goes here; the corpus of the repository stays as it is
            str(ROOT / "fuzz" / "corpus" / target),
        )


@nox.session
def docs(session: nox.Session) -> None:
    """Run every code block of README and docs, and check generated parts of the docs."""
    install_packages(session)
    install_group(session, "test")
    session.run("pytest", "tests/docs", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure the unit tests; the pure layers (wire and engines) must be covered in full."""
    install_packages(session)
    install_group(session, "test")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-q", "tests/unit", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")
    session.run("coverage", "report", "--include=*/wire/*,*/engine/*", "--fail-under=100")


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheels and source archives of all packages into dist/."""
    install_group(session, "build")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    for folder in PACKAGES:
        with session.chdir(folder):
            session.run("hatchling", "build", "--directory", str(ROOT / "dist"))


@nox.session(python=PYTHONS)
def install_check(session: nox.Session) -> None:
    """Build the wheels, install them into empty environments, and run a program in each."""
    build(session)
    session.run("python", "scripts/install_check.py", "dist", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks; arguments go to benchmarks/run.py."""
    install_packages(session)
    session.run("python", "benchmarks/run.py", *session.posargs)


@nox.session
def changelog(session: nox.Session) -> None:
    """Show what the news fragments make; with `-- build --version X`, write the section of a release."""
    install_group(session, "changelog")
    session.run("towncrier", *(session.posargs or ["build", "--draft", "--version", "next"]))
