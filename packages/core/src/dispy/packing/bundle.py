"""Packs a computation: its code for any node's Python, its files, and the arguments of its jobs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from dispy.engine.records import SourceFile
from dispy.errors import InvalidComputation, NotPicklable, UsageError
from dispy.model import Pieces, PythonVersion, SharedData
from dispy.packing.arguments import ArgumentPacker, pack_program_arguments
from dispy.packing.callee import Callee, examine
from dispy.packing.contents import Contents
from dispy.packing.elements import (
    add_file_or_module,
    add_module_files,
    as_text,
    elements_of,
    is_file_or_module,
    on_path,
    useless_to_program,
)
from dispy.packing.files import Files
from dispy.packing.jobparts import JobParts
from dispy.packing.preparation import Preparation
from dispy.packing.sharing import SharedRef, Sharer
from dispy.packing.source import SourceUnavailable, source_bundle

OWN_VERSION = PythonVersion(*sys.version_info[:3])

SAFE_RESULTS = b"R"
"""Stands before a bundle whose results are to be encoded without pickle; see `dispy.packing.safe`."""


END_OF_NAME = b"\0"
"""Stands between the name of a program and the bundle with its setup and cleanup."""


class PythonCode:
    """Python functions, packed for any node's Python. Safe to use from several threads.

    Attributes:
        code: the bundle for nodes whose Python shares bytecode with this one.
    """

    def __init__(self, contents: Contents, *, safe_results: bool) -> None:
        self._head = SAFE_RESULTS if safe_results else b""
        self.code = self._head + contents.pickle()
        self._contents = contents
        self._lock = threading.Lock()
        self._text: bytes | SourceUnavailable | None = None
        self.arguments = ArgumentPacker(contents.found, contents.is_whole)

    def pack_parts(self, depends: Sequence[object], *, max_file_bytes: int) -> JobParts:
        """Pack what one job brings along; see `FunctionBundle.pack_parts`."""
        return JobParts.of_function(depends, self._contents, max_file_bytes=max_file_bytes)

    def for_python(self, version: PythonVersion) -> bytes | str:
        """Return the code for a node with that Python, or a text that says why it cannot have any."""
        if version.shares_bytecode_with(OWN_VERSION):
            return self.code
        with self._lock:
            if self._text is None:
                self._text = self._make_text()
        if isinstance(self._text, bytes):
            return self._text
        return (
            f"the node has Python {version} and the client {OWN_VERSION}, so {self._contents.name!r} would have to "
            f"go as source text, but {self._text}; use Python {OWN_VERSION.major}.{OWN_VERSION.minor} at the node, "
            "or move what has no text to the top of a file"
        )

    def _make_text(self) -> bytes | SourceUnavailable:
        contents = self._contents
        try:
            return self._head + source_bundle(
                contents.target,
                contents.names,
                contents.whole_sources().texts,
                contents.preparation.functions,
                contents.first,
            )
        except SourceUnavailable as unavailable:
            return unavailable

    def pack_setup_arguments(self, args: tuple[Any, ...]) -> bytes:
        """Pickle the arguments of setup and cleanup; nothing if there are none.

        Raises:
            NotPicklable: one cannot be sent; the message names it.
        """
        if not args:
            return b""
        try:
            packed = self.arguments.pack(args, {})
        except NotPicklable as error:
            raise NotPicklable(f"setup_args: {error}") from error
        return packed.joined() if isinstance(packed, Pieces) else packed


class FunctionBundle:
    """A function computation, packed. Safe to use from several threads.

    Attributes:
        name: name of the function.
        is_function: True.
        executor: what runs it at the node.
        files: files to place at the node.
        preparation: what runs before and after its jobs.
    """

    is_function = True
    executor = "function"

    def __init__(
        self, callee: Callee, contents: Contents, files: Sequence[SourceFile], *, safe_results: bool
    ) -> None:
        self.name = callee.name
        self.files = files
        self.preparation = contents.preparation
        self._callee = callee
        self._code = PythonCode(contents, safe_results=safe_results)
        self._arguments = self._code.arguments

    @property
    def code(self) -> bytes:
        """The bundle for nodes whose Python shares bytecode with this one."""
        return self._code.code

    def for_python(self, version: PythonVersion) -> bytes | str:
        """Return the code for a node with that Python, or a text that says why it cannot have any."""
        return self._code.for_python(version)

    def bind_arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the positional arguments as the node's function takes them; see `Callee.bind_arguments`."""
        return self._callee.bind_arguments(args, kwargs)

    def pack_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], parts: JobParts | None = None
    ) -> bytes | Pieces:
        """Make the body of a job, with what it brings along.

        Raises:
            NotPicklable: an argument cannot be sent; the message names it.
            UsageError: a file that it brings along cannot be read.
        """
        if self._callee.instance is not None:
            args = self._callee.bind_arguments(args, kwargs)
        if parts is None:
            return self._arguments.pack(args, kwargs)
        packer = parts.arguments or self._arguments
        return parts.body(packer.pack(args, kwargs))

    def pack_parts(self, depends: Sequence[object], *, max_file_bytes: int) -> JobParts:
        """Pack what one job brings along.

        Raises:
            NotPicklable: something refers to what cannot be sent.
            UsageError: something in *depends* cannot be used.
        """
        return self._code.pack_parts(depends, max_file_bytes=max_file_bytes)

    def pack_job(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], sharer: Sharer, parts: JobParts | None = None
    ) -> tuple[bytes | Pieces, tuple[SharedData, ...]]:
        """Make the body of a job, and tell which shared data it needs; see `ArgumentPacker.pack_job`."""
        if self._callee.instance is not None:
            args = self._callee.bind_arguments(args, kwargs)
        if parts is None:
            return self._arguments.pack_job(args, kwargs, sharer)
        packer = parts.arguments or self._arguments
        body, needs = packer.pack_job(args, kwargs, sharer)
        return parts.body(body), needs

    def put(self, value: object, sharer: Sharer) -> SharedRef:
        """Pickle what jobs are to share; see `ArgumentPacker.put`."""
        return self._arguments.put(value, sharer)

    def pack_setup_arguments(self, args: tuple[Any, ...]) -> bytes:
        """Make the arguments of setup and cleanup; see `PythonCode.pack_setup_arguments`."""
        return self._code.pack_setup_arguments(args)


class ProgramBundle:
    """A program computation, packed.

    Attributes:
        name: file name of the program, without directory.
        is_function: False.
        executor: what runs it at the node.
        files: the program and the files that it needs.
        preparation: what runs before and after its jobs.
    """

    is_function = False

    def __init__(
        self, program: SourceFile, files: Sequence[SourceFile], contents: Contents | None = None
    ) -> None:
        self.name = program.path
        self.executor = "java" if is_java(program.path) else "program"
        self.files = files
        self.preparation = Preparation() if contents is None else contents.preparation
        self._code = None if contents is None else PythonCode(contents, safe_results=False)

    def for_python(self, version: PythonVersion) -> bytes | str:
        """Return the name of the program's file at the node, and behind it setup and cleanup if there are any."""
        name = self.name.encode("utf-8", "surrogateescape")
        if self._code is None:
            return name
        code = self._code.for_python(version)
        return name + END_OF_NAME + code if isinstance(code, bytes) else code

    def pack_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], parts: JobParts | None = None
    ) -> bytes | Pieces:
        """Make the body of a job, with what it brings along; see `pack_program_arguments`."""
        packed = pack_program_arguments(args, kwargs)
        return packed if parts is None else parts.body(packed)

    def pack_parts(self, depends: Sequence[object], *, max_file_bytes: int) -> JobParts:
        """Pack what one job brings along; see `FunctionBundle.pack_parts`."""
        return JobParts.of_program(depends, max_file_bytes=max_file_bytes)

    def pack_job(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], sharer: Sharer, parts: JobParts | None = None
    ) -> tuple[bytes | Pieces, tuple[SharedData, ...]]:
        """Make the body of a job, with what it brings along; it needs no shared data."""
        return self.pack_arguments(args, kwargs, parts), ()

    def put(self, value: object, sharer: Sharer) -> SharedRef:
        """Refuse.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"jobs of program {self.name!r} cannot read shared data: send a file with depends or send_file"
        )

    def pack_setup_arguments(self, args: tuple[Any, ...]) -> bytes:
        """Make the arguments of setup and cleanup; see `PythonCode.pack_setup_arguments`."""
        return b"" if self._code is None else self._code.pack_setup_arguments(args)


CodeBundle = FunctionBundle | ProgramBundle

NO_PREPARATION = Preparation()


def pack_computation(
    computation: object,
    depends: Sequence[object] = (),
    *,
    preparation: Preparation = NO_PREPARATION,
    safe_results: bool = False,
    max_file_bytes: int = 0,
) -> CodeBundle:
    """Pack a function, or the path or name of a program; *depends* is left as it is.

    Args:
        preparation: what is to run at each node before and after the jobs.
        safe_results: nodes are to send results of the function without pickle; a program has none.
        max_file_bytes: size of the largest file that is taken; 0 for no limit.

    Raises:
        InvalidComputation: it is neither, or not one that can work.
        NotPicklable: the function refers to something that cannot be sent.
        UsageError: something in *depends* cannot be used.
    """
    if isinstance(computation, (str, os.PathLike)):
        return pack_program(os.fspath(computation), depends, preparation, max_file_bytes=max_file_bytes)
    return pack_function(
        computation,
        depends,
        preparation=preparation,
        safe_results=safe_results,
        max_file_bytes=max_file_bytes,
    )


def pack_function(
    compute: object,
    depends: Sequence[object] = (),
    *,
    preparation: Preparation = NO_PREPARATION,
    safe_results: bool = False,
    max_file_bytes: int = 0,
) -> FunctionBundle:
    """Pack a function with what it needs; raises as `pack_computation`."""
    callee = examine(compute)
    files = Files(max_bytes=max_file_bytes)
    contents = Contents(callee, preparation)
    for number, element in enumerate(elements_of(depends), 1):
        if isinstance(element, (str, os.PathLike)):
            files.add(as_text(element, number))
        elif isinstance(element, ModuleType):
            contents.add_module(element)
            add_module_files(files, element)
        else:
            contents.add(element, number)
    return FunctionBundle(callee, contents, files.all(), safe_results=safe_results)


def pack_program(
    path: str,
    depends: Sequence[object] = (),
    preparation: Preparation = NO_PREPARATION,
    *,
    max_file_bytes: int = 0,
) -> ProgramBundle:
    """Pack a program, given by path or by its name on PATH, with the files and modules that it needs.

    Raises:
        InvalidComputation: there is no such program, or it may not be executed.
        NotPicklable: setup or cleanup refers to something that cannot be sent.
        UsageError: something in *depends* is neither a file nor a module, and there is no setup or cleanup for it.
    """
    files = Files(max_bytes=max_file_bytes)
    contents = Contents(None, preparation) if preparation.functions else None
    found = _find_program(path)
    program = files.add(found, os.path.basename(found))
    for number, element in enumerate(elements_of(depends), 1):
        if is_file_or_module(element):
            add_file_or_module(files, element, number)
            if contents is not None and isinstance(element, ModuleType):
                contents.add_module(element)
        elif contents is not None:
            contents.add(element, number)
        else:
            raise useless_to_program(element, number)
    return ProgramBundle(program, files.all(), contents)


def _find_program(path: str) -> str:
    """Return the path of a program's file.

    Raises:
        InvalidComputation: there is none, or it may not be executed.
    """
    found = path if os.path.exists(path) else on_path(path)
    if found is None:
        raise InvalidComputation(
            f"file {path!r} is not valid: it is neither a file here nor a program on PATH; "
            "give the path of a program, or a function"
        )
    if not os.path.isfile(found):
        raise InvalidComputation(
            f"file {path!r} is not valid: it is not a regular file; give the path of a program"
        )
    if not found.endswith(".py") and not is_java(found) and os.name != "nt" and not os.access(found, os.X_OK):
        raise InvalidComputation(
            f"file {path!r} is not valid: it is not executable; mark it with: chmod +x {found}"
        )
    return found


def is_java(path: str) -> bool:
    """Tell whether Java runs a file: source text or an archive."""
    return path.lower().endswith((".java", ".jar"))
