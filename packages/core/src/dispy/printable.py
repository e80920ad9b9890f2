"""Text from others, made fit for logs and terminals.

What a peer says may hold escape sequences, which act on a terminal, and new lines, which pretend to be lines of ours.
"""

from __future__ import annotations

SHOWN_CHARS = 64
"""A stranger's words are quoted up to here."""

INDENT = "    "


def printable(text: str, limit: int | None = None) -> str:
    """Return *text* on one line: blanks for white space, "?" for what else cannot be printed.

    Args:
        limit: characters after which it is cut off; None: never.
    """
    if limit is not None:
        text = text[:limit]
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text)


def printable_lines(text: str) -> str:
    """Return *text* with its lines, of which all but the first are indented: none of them can pass for one of ours."""
    if text.isprintable():
        return text
    first, *others = map(printable, text.splitlines() or [""])
    return "\n".join([first, *(line if line.startswith(INDENT) else INDENT + line for line in others)])
