"""Scripts for shells."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("shell", ["zsh", "fish"])
@pytest.mark.parametrize(
    ("program", "variable"), [("dispy", "_DISPY_COMPLETE"), ("dispy.py", "_DISPY_PY_COMPLETE")]
)
def test_script_is_what_click_answers_to(
    run_dispy: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    shell: str,
    program: str,
    variable: str,
) -> None:
    assert run_dispy("completion", shell, program=program) == 0
    script = capsys.readouterr().out
    assert f"{variable}={shell}_complete" in script
    # The shell sets this variable when it asks; that click listens to it is shown by asking for the script.
    monkeypatch.setenv(variable, f"{shell}_source")
    with pytest.raises(SystemExit) as caught:
        run_dispy(program=program)
    assert not caught.value.code
    assert capsys.readouterr().out.strip() == script.strip()


def test_commands_and_options_are_completed(
    run_dispy: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def complete(words: str, place: int) -> set[str]:
        monkeypatch.setenv("_DISPY_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(place))
        with pytest.raises(SystemExit):
            run_dispy()
        return {line.partition(",")[2] for line in capsys.readouterr().out.splitlines()}

    assert complete("dispy ", 1) == {"completion", "doctor", "nodes", "plugins", "run"}
    assert complete("dispy pl", 1) == {"plugins"}
    assert {"--json", "--file"} <= complete("dispy run --", 2)
    # Where `run` is left out, its options are completed all the same.
    assert {"--json", "--file"} <= complete("dispy -a x --", 3)
    assert complete("dispy nonsense --", 2) <= {"--help", "--version", "-h"}


def test_unknown_shell_is_a_usage_error(
    run_dispy: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_dispy("completion", "tcsh") == 2
    assert "bash" in capsys.readouterr().err
