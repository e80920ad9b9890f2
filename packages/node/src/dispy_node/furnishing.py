"""Puts into a computation's folder the files that it brings along: those that came, and copies of what is there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from dispy.errors import UsageError
from dispy.wire.messages import FileOffer
from dispy_node.confine.accounts import Account
from dispy_node.engine.records import HostedComputation, Spooled
from dispy_node.keeping import open_file
from dispy_node.storage import StateFolder

COPY_BYTES = 1024 * 1024


def needs_copies(computation: HostedComputation) -> bool:
    """Tell whether some files did not come, so that furnishing takes its time."""
    return len(computation.files) < len(computation.offer.files)


def furnish(
    state: StateFolder, computation: HostedComputation, folder: Path, account: Account | None = None
) -> None:
    """Place the files of a computation, which has received all that it lacked.

    Args:
        account: to whom they are to belong; None: to us.

    Raises:
        UsageError: a path leads out of the folder, or what was found there has changed meanwhile.
        OSError: the disk is full, or a file cannot have its place.
    """
    offers = computation.offer.files
    came = {
        offer.digest: computation.files[offer.path] for offer in offers if offer.path in computation.files
    }
    contents: dict[str, Spooled] = dict(computation.files)
    stay: list[FileOffer] = []
    # All copies are made before anything gets its place: that may be the place of what is copied.
    for offer in offers:
        if offer.path in contents:
            continue
        source = computation.found.get(offer.path)
        if source == offer.path:
            stay.append(offer)
        elif source is None:
            contents[offer.path] = _copy(state, os.open(came[offer.digest].path, os.O_RDONLY), offer)
        else:
            contents[offer.path] = _copy(state, open_file(folder, source), offer)
    for offer in offers:
        if offer.path in contents:
            state.place_file(
                folder, offer.path, contents[offer.path], offer.mode, offer.modified_at, account=account
            )
    _adjust(folder, stay)


def _copy(state: StateFolder, source: int, offer: FileOffer) -> Spooled:
    """Copy an open file, which is closed, to a spool file."""
    seen = hashlib.sha256()
    with open(source, "rb", buffering=0) as file:
        writer = state.open_spool(offer.size)
        try:
            while data := file.read(COPY_BYTES):
                seen.update(data)
                writer.write(data)
            if seen.digest() != offer.digest:
                raise UsageError(
                    f"file {offer.path!r} was changed at the node meanwhile, perhaps by a job: use another dest_path"
                )
        except BaseException:
            writer.abandon()
            raise
    return writer.finish()


def _adjust(folder: Path, offers: Sequence[FileOffer]) -> None:
    """Give files that are there already the permissions and times that they were offered with."""
    for offer in offers:
        descriptor = open_file(folder, offer.path)
        try:
            os.fchmod(descriptor, offer.mode & 0o755 | 0o600)
            os.utime(descriptor, (offer.modified_at, offer.modified_at))
        except (ValueError, OverflowError) as error:
            raise UsageError(
                f"file {offer.path!r} cannot have the modification time {offer.modified_at!r}"
            ) from error
        finally:
            os.close(descriptor)
