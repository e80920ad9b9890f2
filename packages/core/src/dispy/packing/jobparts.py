"""What one job brings along: files, functions, classes and modules that are there for this job only.

    body = MAGIC, length of the head (four bytes, little endian), head (JSON), code, contents of the files, arguments

The process of the job puts the files into its folder and loads the code before it loads the arguments; files and
code are gone when the job has ended. Daemons do not look inside.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from dispy.engine.records import SourceFile
from dispy.errors import UsageError
from dispy.model import INLINE_BODY_BYTES, FilePart, Pieces
from dispy.packing.arguments import ArgumentPacker
from dispy.packing.contents import Contents
from dispy.packing.elements import (
    add_file_or_module,
    add_module_files,
    as_text,
    elements_of,
    is_file_or_module,
    useless_to_program,
)
from dispy.packing.files import Files
from dispy.packing.pickler import BundlePickler
from dispy.packing.preparation import Preparation

MAGIC = b"\xff\xff\xff\xff"
"""No pickle begins so, and no arguments of a program."""

LIST = "dispy_job_depends"


class JobParts:
    """What a job brings along, packed.

    Args:
        files: its files.
        code: bundle of its code; empty if there is none.
        is_text: the code runs on any version of Python.
        arguments: packs arguments that refer to it; None for a program.
    """

    def __init__(
        self, files: Sequence[SourceFile], code: bytes, *, is_text: bool, arguments: ArgumentPacker | None
    ) -> None:
        self._files = files
        self._code = code
        self._is_text = is_text
        self.arguments = arguments

    @classmethod
    def of_function(
        cls, depends: Sequence[object], computation: Contents, *, max_file_bytes: int
    ) -> JobParts:
        """Pack what goes with a call of a function.

        Raises:
            NotPicklable: something refers to what cannot be sent.
            UsageError: something in *depends* cannot be used.
        """
        files = Files(max_bytes=max_file_bytes)
        contents = _JobContents(computation)
        wanted = False
        for number, element in enumerate(elements_of(depends, LIST), 1):
            if isinstance(element, (str, os.PathLike)):
                files.add(as_text(element, number))
                continue
            wanted = True
            if isinstance(element, ModuleType):
                contents.add_module(element)
                add_module_files(files, element)
            else:
                contents.add(element, number)
        code = contents.pickle() if wanted else b""
        is_text = not (contents.names or contents.found)
        arguments = ArgumentPacker(
            {
                module: {**computation.found.get(module, {}), **contents.found.get(module, {})}
                for module in {*computation.found, *contents.found}
            },
            contents.is_whole,
        )
        return cls(files.all(), code, is_text=is_text, arguments=arguments)

    @classmethod
    def of_program(cls, depends: Sequence[object], *, max_file_bytes: int) -> JobParts:
        """Pack what goes with a run of a program.

        Raises:
            UsageError: something in *depends* is neither a file nor a module.
        """
        files = Files(max_bytes=max_file_bytes)
        for number, element in enumerate(elements_of(depends, LIST), 1):
            if not is_file_or_module(element):
                raise useless_to_program(element, number)
            add_file_or_module(files, element, number)
        return cls(files.all(), b"", is_text=True, arguments=None)

    @property
    def carries(self) -> tuple[str, int]:
        """Name and size of the largest file; "" and 0 if there is none."""
        largest = max(self._files, key=lambda file: file.size, default=None)
        return ("", 0) if largest is None else (largest.path, largest.size)

    def body(self, arguments: bytes | Pieces) -> bytes | Pieces:
        """Make the body of the job. Small files are read now, large ones when the body is sent.

        Raises:
            UsageError: a small file cannot be read, or has changed.
        """
        head = json.dumps(
            {
                "code": len(self._code),
                "python": None if self._is_text else list(sys.version_info[:2]),
                "files": [[file.path, file.size, file.mode, file.modified_at] for file in self._files],
            }
        ).encode()
        parts: list[bytes | FilePart] = [MAGIC, len(head).to_bytes(4, "little"), head, self._code]
        parts += [file.content for file in self._files]
        parts += arguments.parts if isinstance(arguments, Pieces) else (arguments,)
        body = Pieces(tuple(parts))
        return body if len(body) > INLINE_BODY_BYTES else b"".join(map(_content, parts))


def _content(part: bytes | FilePart) -> bytes:
    if isinstance(part, bytes):
        return part
    try:
        with open(part.path, "rb") as file:
            data = file.read(part.size + 1)
    except OSError as error:
        raise UsageError(f"file {part.path!r} is not valid: it cannot be read: {error.strerror}") from error
    if len(data) != part.size:
        raise UsageError(f"file {part.path!r} has changed while it was read; make it complete before submit")
    return data


class _JobContents(Contents):
    """Code that comes to a node that has the computation, to which it refers by name."""

    def __init__(self, computation: Contents) -> None:
        super().__init__(None, Preparation())
        self.name = LIST
        self.main = computation.main
        self._known = computation.found
        self._is_known = computation.is_whole
        self.sources = type(self.sources)(computation.sources.texts)

    def is_whole(self, module: str) -> bool:
        """Tell whether a local module goes as a whole, or is at the node already."""
        return super().is_whole(module) or self._is_known(module)

    def _pickler(self, file: io.BytesIO) -> BundlePickler:
        return BundlePickler(file, self.main, self.is_whole, self._known)
