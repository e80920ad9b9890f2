"""Who may take part: the key, where it is from, and how it is recognized on another machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dispy.errors import DispyError
from dispy.runtime.trust import Trust
from dispy_cli.checks.finding import Finding, Level, split_remedy

VARIABLES = ("DISPY_SECRET", "DISPY_SECRET_FD")


def check_trust(trust: Trust, key_file: Path | None, environment: Mapping[str, str]) -> list[Finding]:
    """Tell which keys and certificates are used, and from where; none is made for it.

    Args:
        key_file: where the key of the user is kept; None if keys are not installed.
        environment: that of the process.
    """
    if trust.is_open:
        text = "connections are neither authenticated nor encrypted (--open)"
        return [Finding("key", Level.WARN, text, "leave out --open, and use a key")]
    named = trust.is_explicit or any(environment.get(name) for name in VARIABLES)
    if not named and key_file is not None and not os.path.lexists(key_file):
        text = f"there is no key in {str(key_file)!r} yet; it is made on first use"
        remedy = "to use that of another machine, run here: ssh HOST dispy key show | dispy key add"
        return [Finding("key", Level.WARN, text, remedy)]
    try:
        trust.require()
        layers = trust.load()
    except DispyError as error:
        return [Finding("key", Level.FAIL, *split_remedy(error))]
    return [
        Finding("key", Level.OK, f"{one.name}, from {one.source}" if one.source else one.name)
        for layer in layers
        for one in layer
    ]
