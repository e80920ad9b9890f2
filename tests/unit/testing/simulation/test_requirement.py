from __future__ import annotations

import pytest

from dispy_testing.simulation.requirement import require


def test_missing_module_is_named_with_what_brings_it() -> None:
    with pytest.raises(ModuleNotFoundError, match="pip install such-a-thing") as caught:
        require("no_such_module", "such-a-thing")
    assert caught.value.name == "no_such_module"


def test_present_module_is_well() -> None:
    require("dispy_node", "dispy-node")
