"""What the simulator needs beyond the dependencies of dispy-testing."""

from __future__ import annotations

from importlib.util import find_spec


def require(module: str, distribution: str) -> None:
    """Check that a module can be imported.

    Raises:
        ModuleNotFoundError: it cannot; the text names the distribution that brings it.
    """
    if find_spec(module) is None:
        raise ModuleNotFoundError(
            f"the simulator needs {module}, which is not installed; install it with: pip install {distribution}",
            name=module,
        )


require("dispy_node", "'dispy-testing[simulation]'")
