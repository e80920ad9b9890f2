"""Every hook is specified, documented, tested, and used by something that ships."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from dispy import hookspecs
from dispy.hookspecs import JobEvent, NodeEvent
from dispy.model import JobId, JobStatus, NodeStatus

ROOT = Path(__file__).parents[3]
SOURCE = ast.parse(inspect.getsource(hookspecs))
SPECS = [node for node in SOURCE.body if isinstance(node, ast.FunctionDef) and node.name.startswith("dispy_")]
FIRST_PARTY = [
    ROOT / "packages/core/src/dispy/builtin.py",
    *sorted(ROOT.glob("packages/*/src/*/plugin.py")),
]
EACH_SPEC = pytest.mark.parametrize("spec", SPECS, ids=[spec.name for spec in SPECS])


def implemented_in(path: Path) -> set[str]:
    """Return the names of the functions of a module that are marked as hook implementations."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(mark, ast.Name) and mark.id == "hookimpl" for mark in node.decorator_list)
    }


def test_there_are_hooks() -> None:
    assert {spec.name for spec in SPECS} == {
        "dispy_register_transport",
        "dispy_register_security",
        "dispy_register_credentials",
        "dispy_register_discovery",
        "dispy_register_executor",
        "dispy_register_fault_policy",
        "dispy_register_allocator",
        "dispy_register_command",
        "dispy_on_jobs",
        "dispy_on_nodes",
    }


@EACH_SPEC
def test_hook_is_marked_and_typed(spec: ast.FunctionDef) -> None:
    assert hasattr(getattr(hookspecs, spec.name), "dispy_spec")
    assert spec.returns is not None
    assert all(argument.annotation is not None for argument in spec.args.args)


@EACH_SPEC
def test_hook_tells_its_contract(spec: ast.FunctionDef) -> None:
    text = ast.get_docstring(spec) or ""
    assert "Fires" in text, "tell when it is called"
    assert "Returns:" in text or "returns is ignored" in text, "tell what the answer means"
    assert "must not" in text, "tell what must not be done in it"


@EACH_SPEC
def test_hook_has_a_heading_with_its_signature(spec: ast.FunctionDef) -> None:
    assert spec.returns is not None
    signature = f"{spec.name}({ast.unparse(spec.args)}) -> {ast.unparse(spec.returns)}"
    assert f"\n## `{signature}`\n" in (ROOT / "docs/hooks.md").read_text()


def test_documented_hooks_exist() -> None:
    headings = [line for line in (ROOT / "docs/hooks.md").read_text().splitlines() if line.startswith("## `")]
    assert {heading[len("## `") :].partition("(")[0] for heading in headings} == {spec.name for spec in SPECS}


@EACH_SPEC
def test_hook_has_a_shipped_user(spec: ast.FunctionDef) -> None:
    assert [path for path in FIRST_PARTY if spec.name in implemented_in(path)]


@EACH_SPEC
def test_hook_has_a_test(spec: ast.FunctionDef) -> None:
    tests = (ROOT / "tests/unit/core/test_plugins.py").read_text()
    assert f"def test_hook_{spec.name.removeprefix('dispy_')}" in tests


@pytest.mark.parametrize("path", FIRST_PARTY, ids=[path.parent.name for path in FIRST_PARTY])
def test_plugins_import_what_they_offer_inside_the_hook(path: Path) -> None:
    imported = {
        origin
        for node in ast.parse(path.read_text()).body
        for origin in (
            [node.module]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    allowed = {"__future__", "collections.abc", "typing", "logging", "dispy.hookspecs", "dispy.model"}
    assert imported <= allowed


def test_events_are_values() -> None:
    job = JobEvent(JobId(1), "compute", JobStatus.FINISHED, "node1")
    assert job == JobEvent(JobId(1), "compute", JobStatus.FINISHED, "node1", reason="")
    with pytest.raises(AttributeError):
        job.node = "other"  # type: ignore[misc]
    assert {NodeEvent("node1", "10.0.0.1", NodeStatus.CLOSED, "compute")} == {
        NodeEvent("node1", "10.0.0.1", NodeStatus.CLOSED, "compute")
    }
