"""docs/protocol.md says what the code says: diagrams, messages with their fields, limits."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args

import msgspec
import pytest

from dispy.model import AccessRole, Outcome
from dispy.wire import messages
from dispy.wire.rights import NEEDED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text()
CONSTANTS = re.compile(
    r"^\| `(?P<module>dispy[\w.]+)\.(?P<name>[A-Z_]+)` \| (?P<value>[^|]+) \|", re.MULTILINE
)
QUOTED = re.compile(r"`(?P<name>[A-Z]+(?:_[A-Z]+)*)` \((?P<value>[^)]+)\)")
UNITS = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "s": 1}
PARTS = [
    messages.FileOffer,
    messages.JobAssignment,
    messages.JobLimits,
    messages.JobStart,
    messages.JobResult,
]


def diagrams() -> ModuleType:
    path = ROOT / "scripts" / "make_diagrams.py"
    spec = importlib.util.spec_from_file_location("make_diagrams", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up there.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "make_diagrams", module)
        spec.loader.exec_module(module)
    return module


def amount(text: str) -> float:
    """Read "4 MiB", "0.05 s" or "128"."""
    number, _, unit = text.strip().partition(" ")
    return float(number) * UNITS[unit]


def row_of(message: type[msgspec.Struct]) -> list[str]:
    """Return the cells of the one row that describes a message."""
    rows = re.findall(rf"^\| `{message.__name__}` \|.*$", PAGE, flags=re.MULTILINE)
    assert len(rows) == 1, f"{message.__name__} has {len(rows)} rows"
    return [cell.strip() for cell in rows[0].strip("|").split(" | ")]


def limits() -> list[tuple[str, str, str]]:
    return [(found["module"], found["name"], found["value"]) for found in CONSTANTS.finditer(PAGE)]


def test_diagrams_are_what_the_script_makes() -> None:
    assert diagrams().rewrite(PAGE) == PAGE, "run python scripts/make_diagrams.py"


def test_roles_in_the_page_about_security_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    made = diagrams()
    assert made.rewrite(page, "security.md") == page, "run python scripts/make_diagrams.py"
    assert set(made.MEANINGS) == set(AccessRole)
    table = made.explain_rights()
    assert all(f"`{kind.__name__}`" in table for kind in NEEDED)


def test_script_refuses_a_page_that_lacks_a_section() -> None:
    with pytest.raises(ValueError, match="there must be session"):
        diagrams().rewrite("# A page\n")


@pytest.mark.parametrize("message", get_args(messages.Message), ids=lambda message: str(message.__name__))
def test_message_is_described(message: type[msgspec.Struct]) -> None:
    cells = row_of(message)
    assert len(cells) == 5
    assert cells[1] == f"`{message.__struct_config__.tag}`"
    missing = [field for field in message.__struct_fields__ if f"`{field}`" not in cells[4]]
    assert not missing, f"fields of {message.__name__} that its row does not name"


@pytest.mark.parametrize("part", PARTS, ids=lambda part: str(part.__name__))
def test_part_of_a_message_is_described(part: type[msgspec.Struct]) -> None:
    (sentence,) = re.findall(rf"An? `{part.__name__}`\s+is (.*?)\.\s", PAGE, flags=re.DOTALL)
    # What is said of the body of an assignment holds for that of a result.
    missing = [field for field in part.__struct_fields__ if f"`{field}`" not in sentence]
    assert set(missing) <= ({"body", "stream", "size"} if part is messages.JobResult else set())


def test_no_message_is_described_that_does_not_exist() -> None:
    tags = set(re.findall(r"^\| `[A-Z]\w+` \| `([\w-]+)` \|", PAGE, flags=re.MULTILINE))
    assert tags == {message.__struct_config__.tag for message in get_args(messages.Message)}


def test_outcomes_are_those_of_the_code() -> None:
    told = {
        int(number): name for number, name in re.findall(r"^\| (\d) `([A-Z]+)` \|", PAGE, flags=re.MULTILINE)
    }
    assert told == {outcome.value: outcome.name for outcome in Outcome}


@pytest.mark.parametrize(("module", "name", "value"), limits(), ids=str)
def test_limit_is_that_of_the_code(module: str, name: str, value: str) -> None:
    assert getattr(importlib.import_module(module), name) == amount(value)


def test_limits_in_the_text_are_those_of_the_table() -> None:
    table: dict[str, set[float]] = {}
    for _, name, value in limits():
        table.setdefault(name, set()).add(amount(value))
    quoted = [(found["name"], found["value"]) for found in QUOTED.finditer(PAGE)]
    assert len(quoted) > 20
    for name, value in quoted:
        assert table.get(name) == {amount(value)}, f"{name} ({value})"
