"""A folder for a node that has no place of its own: made anew, with a name that nobody can guess."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "dispy-node-"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that nobody else can have prepared (mode 0700), and remove it in the end.

    Raises:
        OSError: it cannot be made.
    """
    folder = Path(tempfile.mkdtemp(prefix=PREFIX)).absolute()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
