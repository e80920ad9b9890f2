from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dispy.errors import CredentialsError, UsageError
from dispy_transport_ssl.cert import cert

Call = Callable[..., Result]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISPY_CONFIG_DIR", str(tmp_path))
    return tmp_path / "certs"


@pytest.fixture
def call(path: Path) -> Call:
    return lambda *words: CliRunner().invoke(cert, words)


def told(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.output


def test_from_nothing_to_a_node_and_a_user(call: Call, path: Path) -> None:
    text = told(call("init", "--name", "lab"))
    assert "Authority 'lab' (" in text
    assert f"{path / 'ca-key.pem'}    keep to yourself" in text
    text = told(call("issue", "alpha", "--role", "node"))
    assert "Certificate 'alpha' (" in text
    assert f"scp -p {path / 'alpha.pem'} {path / 'ca.pem'} MACHINE:" in text
    assert "\n    dispy node --certfile alpha.pem --cafile ca.pem\n" in text
    assert "JobCluster" not in text
    text = told(call("issue", "mary", "--role", "submit", "--role", "observe", "--days", "10"))
    assert "roles observe, submit, valid until" in text
    assert '    JobCluster(..., certfile="mary.pem", cafile="ca.pem")\n' in text
    assert "dispy node" not in text
    assert sorted(each.name for each in path.glob("*.pem")) == [
        "alpha.pem",
        "ca-key.pem",
        "ca.pem",
        "mary.pem",
    ]


def test_list(call: Call) -> None:
    told(call("init"))
    told(call("issue", "alpha", "--role", "node", "--days", "9.5"))
    told(call("issue", "gone", "--role", "submit", "--days", "0.0000001"))
    heading, authority, alpha, gone = (line.split("  ") for line in told(call("list")).splitlines())
    assert heading[0] == "NAME"
    assert [authority[0], alpha[0], gone[0]] == ["ca", "alpha", "gone"]
    assert "(authority)" in [cell.strip() for cell in authority]
    assert [cell.strip() for cell in alpha if cell][2] == "node"
    assert alpha[-1].strip() == "9"
    assert gone[-1].strip() == "expired"


def test_renew(call: Call, path: Path) -> None:
    told(call("init"))
    told(call("issue", "alpha", "--role", "node"))
    before = (path / "alpha.pem").read_bytes()
    assert "Certificate 'alpha'" in told(call("renew", "alpha", "--days", "3"))
    assert (path / "alpha.pem").read_bytes() != before


def test_another_folder(call: Call, path: Path, tmp_path: Path) -> None:
    told(call("--folder", str(tmp_path / "other"), "init"))
    assert (tmp_path / "other" / "ca.pem").exists()
    assert not path.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["issue", "alpha"],
        ["issue", "alpha", "--role", "king"],
        ["issue", "alpha", "--role", "node", "--days", "0"],
        ["issue", "--role", "node"],
        ["init", "--years", "1000"],
        ["destroy"],
    ],
)
def test_wrong_usage(call: Call, path: Path, words: list[str]) -> None:
    assert call(*words).exit_code == 2
    assert not path.exists()


def test_what_goes_wrong_is_for_the_program_to_tell(call: Call) -> None:
    assert isinstance(call("list").exception, CredentialsError)
    assert isinstance(call("init", "--name", "ä" * 33).exception, UsageError)
    told(call("init", "--name", "ä" * 32))
    assert isinstance(call("init").exception, CredentialsError)
    assert isinstance(call("issue", "../x", "--role", "node").exception, UsageError)


def test_help_needs_no_folder(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPY_CONFIG_DIR", "not-absolute")
    assert "dispy cert issue alpha --role node" in told(call("--help"))
