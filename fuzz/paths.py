"""Fuzzes names of files that come from a peer."""

from __future__ import annotations

import os

import loop

from dispy.errors import UsageError
from dispy.places import relative_path


def target(data: bytes) -> None:
    """Check it as a name, whatever text it is, and also when it is none."""
    for errors in ("replace", "surrogateescape", "surrogatepass"):
        try:
            text = data.decode("utf-8", errors)
        except UnicodeDecodeError:
            continue
        try:
            path = relative_path(text)
        except UsageError:
            continue
        if os.path.normpath(f"/base/{path}") != f"/base/{text}":
            raise AssertionError(f"{text!r} leads elsewhere")


if __name__ == "__main__":
    loop.run("paths", target)
