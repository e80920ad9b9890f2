"""What users write in ``depends`` and ``dispy_job_depends``, as far as it is the same for both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from dispy.errors import UsageError
from dispy.packing.files import Files
from dispy.packing.modules import files_of


def elements_of(depends: Any, name: str = "depends") -> Iterator[object]:
    """Return the elements of the parameter *name*; None counts as none.

    Raises:
        UsageError: it is no list.
    """
    if depends is None:
        return iter(())
    if isinstance(depends, (str, bytes)) or not hasattr(depends, "__iter__"):
        raise UsageError(f"{name} must be a list, not {depends!r}")
    return iter(depends)


def is_file_or_module(element: object) -> bool:
    """Tell whether it is something that can come along with a program."""
    return isinstance(element, (str, os.PathLike, ModuleType))


def add_file_or_module(files: Files, element: Any, number: int) -> None:
    """Take element *number* of a program's list, for which `is_file_or_module` holds.

    Raises:
        UsageError: it cannot be sent.
    """
    if isinstance(element, ModuleType):
        add_module_files(files, element)
        return
    name = as_text(element, number)
    files.add(name if os.path.exists(name) else on_path(name) or name)


def add_module_files(files: Files, module: ModuleType) -> None:
    """Send the module's files, to where Python finds them: jobs may start programs that import it too.

    Raises:
        UsageError: it was made by a program rather than imported, so no node can have it.
    """
    if getattr(module, "__spec__", None) is None and getattr(module, "__file__", None) is None:
        raise UsageError(
            f"module {module.__name__!r} of depends comes from no file, so it cannot be sent; "
            "put its code into a file, or name its functions and classes"
        )
    for path, place in files_of(module):
        if os.path.isfile(path):  # else it lies in an archive, say
            files.add(path, place)


def as_text(element: Any, number: int) -> str:
    """Return the path that an element is.

    Raises:
        UsageError: it is bytes.
    """
    path = os.fspath(element)
    if not isinstance(path, str):
        raise UsageError(f"element {number} of depends is {path!r}: give paths as text, with os.fsdecode")
    return path


def useless_to_program(element: object, number: int) -> UsageError:
    """Return the error that a program has no use for an element."""
    return UsageError(
        f"element {number} of depends ({type(element).__name__}) is of no use to a program; "
        "give paths of files, or modules"
    )


def on_path(name: str) -> str | None:
    """Look for a file along PATH; unlike `shutil.which`, Python and Java programs need not be executable."""
    if os.path.isabs(name):
        return None
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        candidate = os.path.join(folder or os.curdir, name)
        if os.path.isfile(candidate):
            return candidate
    return None
