"""What each node gets of its own: its files, and the arguments of ``setup`` and ``cleanup`` there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dispy.logger import logger
from dispy.nodes import as_arguments, as_paths

if TYPE_CHECKING:
    from dispy.engine.records import Node, SourceFile
    from dispy.nodes import NodePattern

HASHED_BYTES = 16 * 1024 * 1024
"""Files that `NodeAllocate.allocate` has named are hashed only up to this size: the engine waits meanwhile."""


@dataclass(frozen=True, slots=True)
class _Share:
    setup_args: tuple[Any, ...]
    arguments: bytes
    paths: tuple[str, ...]
    files: Sequence[SourceFile]


Prepared = dict["NodePattern", _Share]
"""What goes to the nodes of each pattern."""


class Allotments:
    """Knows what goes to which node.

    What patterns name at first is checked and packed here; what `NodeAllocate.allocate` sets, when it has returned.

    Args:
        packed: the computation's bundle.
        max_file_bytes: size of the largest file that is taken; 0 for no limit.
        is_shared: files lie in a folder where they may be already, so that all of them are to be hashed.

    Raises:
        UsageError: ``setup_args`` do not fit setup or cleanup, or a file cannot be used.
        NotPicklable: one of the arguments cannot be sent.
    """

    def __init__(
        self, packed: Any, patterns: Sequence[NodePattern], *, max_file_bytes: int, is_shared: bool
    ) -> None:
        self._packed = packed
        self._max_file_bytes = max_file_bytes
        self._is_shared = is_shared
        self._digests: dict[SourceFile, bytes] = {}
        self._common = self._hashed(packed.files)
        self._of_patterns = self.prepare(patterns)
        self._of_nodes: dict[str, _Share] = {}

    def prepare(self, patterns: Sequence[NodePattern]) -> Prepared:
        """Check and pack what goes to the nodes of more patterns; `add` takes it. Any thread may call this.

        Raises:
            UsageError, NotPicklable: as the class.
        """
        return {pattern: self._make(pattern) for pattern in patterns}

    def add(self, prepared: Prepared) -> None:
        """Take in what `prepare` has returned."""
        self._of_patterns.update(prepared)

    def take(self, node: Node, pattern: NodePattern) -> None:
        """Note what a node is to get, by the element of ``nodes`` that has just been asked about it.

        Raises:
            UsageError, NotPicklable: as the class.
        """
        share, allocation = self._of_patterns[pattern], pattern.allocation
        unchanged = (
            as_arguments(allocation.setup_args) is share.setup_args
            and tuple(as_paths(allocation.depends)) == share.paths
        )
        self._of_nodes[node.id] = share if unchanged else self._make(pattern, HASHED_BYTES)

    def arguments_for(self, node: Node) -> bytes:
        """Return the arguments of setup and cleanup, pickled."""
        return self._of_nodes[node.id].arguments

    def files_for(self, node: Node) -> Sequence[SourceFile]:
        """Return all files for a node."""
        return self._of_nodes[node.id].files

    def _make(self, pattern: NodePattern, hashed_bytes: int | None = None) -> _Share:
        allocation = pattern.allocation
        args, paths = as_arguments(allocation.setup_args), as_paths(allocation.depends)
        return _Share(
            args, self._pack_arguments(pattern, args), tuple(paths), self._add_files(paths, hashed_bytes)
        )

    def _pack_arguments(self, pattern: NodePattern, args: tuple[Any, ...]) -> bytes:
        preparation = self._packed.preparation
        if not preparation.functions:
            if args:
                logger.warning("setup_args of node %r are not used: the cluster has no setup", pattern.text)
            return b""
        preparation.check_arguments(args, f"node {pattern.text!r}")
        packed: bytes = self._packed.pack_setup_arguments(args)
        return packed

    def _add_files(self, paths: Sequence[str], hashed_bytes: int | None) -> Sequence[SourceFile]:
        if not paths:
            return self._common
        from dispy.packing.files import Files

        files = Files(max_bytes=self._max_file_bytes, others=self._common)
        for path in paths:
            files.add(path)
        return self._hashed(files.all(), hashed_bytes)

    def _hashed(self, files: Sequence[SourceFile], most_bytes: int | None = None) -> Sequence[SourceFile]:
        from dispy.packing.files import with_digests

        return with_digests(files, all_files=self._is_shared, most_bytes=most_bytes, known=self._digests)
