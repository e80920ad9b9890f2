"""The file with the user's keys: ``key`` in the config folder.

    # a comment
    dispy1-...        the preferred key: the one that is shown to others
    dispy1-...        accepted too, while a key is changed

It is made on first use, by whichever process comes first. Of several that change it, each waits for the one before.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dispy.errors import CredentialsError
from dispy.private import (
    config_folder,
    create_private,
    make_private_folder,
    only_one,
    read_private,
    write_private,
)
from dispy_auth_secret.keys import Key, make_key, parse_key

NAME = "key"
HEADER = (
    "# Keys of dispy. Whoever has one of them can run programs here.\n"
    "# The first one is shown to others, all are accepted.\n"
)


def key_path() -> Path:
    """Return the path of the key file, which need not exist.

    Raises:
        CredentialsError: there is no config folder.
    """
    return config_folder() / NAME


def parse_keys(text: str, origin: str) -> list[Key]:
    """Return the keys in a text, one a line, each once; comments begin with ``#``.

    Args:
        text: what to read.
        origin: where it is from, for messages.

    Raises:
        CredentialsError: there is no key, or a line holds something else; the line's number is told.
    """
    found: dict[Key, None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        content = _content(line)
        if not content:
            continue
        try:
            found[parse_key(content)] = None
        except CredentialsError as error:
            raise CredentialsError(f"line {number} of {origin}: {error}") from None
    if not found:
        raise CredentialsError(
            f"{origin} holds no key; make one with: dispy key new, "
            "or copy what this command prints on another machine: dispy key show"
        )
    return list(found)


def _content(line: str) -> str:
    return line.partition("#")[0].strip()


def read_keys() -> list[Key]:
    """Return the keys of the key file, the preferred one first; none if there is no file.

    Raises:
        CredentialsError: the file cannot be read, others can read it, or something is wrong with a line.
    """
    path = key_path()
    return parse_keys(_read(path), _origin(path)) if os.path.lexists(path) else []


def load_keys() -> list[Key]:
    """Return the keys of the key file, the preferred one first; the file is made if there is none.

    Raises:
        CredentialsError: as `read_keys`, and if the file cannot be made.
    """
    return read_keys() or _make_file(make_key()) or read_keys()


def _make_file(key: Key) -> list[Key]:
    """Make the key file with one key in it, and return that; return nothing if there is a file already."""
    path = key_path()
    make_private_folder(path.parent)
    return [key] if create_private(path, f"{HEADER}{key.text}\n".encode()) else []


def prefer_key(key: Key) -> list[Key]:
    """Put a key first in the key file; those that are there are kept. Return all keys.

    Raises:
        CredentialsError: the file cannot be read or written.
    """
    path = key_path()
    make_private_folder(path.parent)
    with only_one(path.parent):
        if made := _make_file(key):
            return made
        lines = [line for line in _read(path).splitlines() if _content(line).lower() != key.text]
        place = next((place for place, line in enumerate(lines) if _content(line)), len(lines))
        return _write(path, [*lines[:place], key.text, *lines[place:]])


def new_key() -> Key:
    """Make a key and put it first in the key file, so that old and new are accepted while it is changed.

    Raises:
        CredentialsError: the file cannot be read or written.
    """
    key = make_key()
    prefer_key(key)
    return key


def drop_key(fingerprint: str) -> list[Key]:
    """Remove a key from the key file, so that it is accepted no more. Return the keys that are left.

    Raises:
        CredentialsError: there is no such key, it is the only one, or the file cannot be read or written.
    """
    path = key_path()
    if not os.path.lexists(path.parent):
        return _without(path, fingerprint)  # there is nothing that could be locked, and no key
    make_private_folder(path.parent)
    with only_one(path.parent):
        return _without(path, fingerprint)


def _without(path: Path, fingerprint: str) -> list[Key]:
    keys = read_keys()
    dropped = next((key for key in keys if key.fingerprint == fingerprint.strip().lower()), None)
    if dropped is None:
        there = ", ".join(key.fingerprint for key in keys) or "none"
        # What was given is not shown: somebody may have given the key itself.
        raise CredentialsError(f"no key has this fingerprint; use one of these: {there}")
    if keys == [dropped]:
        raise CredentialsError(
            f"key {dropped.fingerprint} is the only one; make another one first, with: dispy key new"
        )
    return _write(path, [line for line in _read(path).splitlines() if _content(line).lower() != dropped.text])


def _read(path: Path) -> str:
    make_private_folder(path.parent)  # who can write into it could have taken the file away
    return read_private(path).decode("utf-8", "replace")


def _write(path: Path, lines: Sequence[str]) -> list[Key]:
    text = "".join(f"{line}\n" for line in lines)
    keys = parse_keys(text, _origin(path))  # before writing: what is wrong must not get into the file
    write_private(path, text.encode())
    return keys


def _origin(path: Path) -> str:
    return f"the key file {str(path)!r}"
