"""The entry point answers Ctrl-C from the first moment."""

from __future__ import annotations

import sys

import pytest

from dispy_cli.main import main


def test_interrupt_while_modules_are_imported_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupting:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "dispy_cli.umbrella":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "dispy_cli.umbrella", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        main("dispy")
    assert ended.value.code == 130
    assert capsys.readouterr().err == "dispy: interrupted\n"
