"""The life of computations: opened, received, prepared, closed, ended."""

from __future__ import annotations

import msgspec

from dispy.model import ComputationId
from dispy.wire.messages import (
    CloseComputation,
    ComputationClosed,
    ComputationFailed,
    ComputationReady,
    FileOffer,
    FilesComing,
    FilesWanted,
    LimitSlots,
    OpenComputation,
)
from dispy_node.engine.attempts import Attempts
from dispy_node.engine.effects import (
    CloseRunner,
    FindFiles,
    KeepParts,
    ReceiveFile,
    RemoveFolder,
    Report,
    StartRunner,
)
from dispy_node.engine.events import FilesFound, RunnerEnded, RunnerFailed, RunnerReady, SlotsGivenUp
from dispy_node.engine.holding import CROWDED, cost_of_offer
from dispy_node.engine.ledger import ABOUT_TO_END, Ledger, Violation
from dispy_node.engine.records import (
    CODE,
    SETUP_ARGS,
    Client,
    ComputationState,
    HostedComputation,
    PartKey,
    Spooled,
)
from dispy_node.engine.results import Results
from dispy_node.engine.tables import ComputationStep, advance_computation

MAX_ID_CHARS = 64
"""Longest id of a computation; ours have 32 hexadecimal digits."""

COMPUTATIONS_MAX = 2048
"""How many there may be at a node: each has a process. As with memory, a client may have as many as could still come,
so half of them if it is alone, and nobody can shut out the rest."""

RECEIVING = ComputationState.RECEIVING
PREPARING = ComputationState.PREPARING
READY = ComputationState.READY
CLOSING = ComputationState.CLOSING


class Computations:
    """Handles what concerns hosted computations.

    Args:
        ledger: what the parts of the engine share.
        attempts: the part for attempts.
        results: the part for results that are kept.
    """

    def __init__(self, ledger: Ledger, attempts: Attempts, results: Results) -> None:
        self._ledger = ledger
        self._attempts = attempts
        self._results = results

    # -- opening

    def open(self, client: Client, message: OpenComputation) -> None:
        """Take in a computation, or answer for one that is here already.

        Raises:
            Violation: the id, a time or a stream number cannot be used, or the id is another client's.
        """
        ledger = self._ledger
        key = _checked_id(message.computation)
        for other in (ledger.computations.get(key), ledger.outgoing.get(key)):
            if other is not None and other.client != client.id:
                raise Violation(f"computation {key!r} belongs to another client")
        if not message.setup_timeout_s >= 0:  # nor a NaN
            raise Violation(f"setup cannot be given {message.setup_timeout_s} seconds")
        streams = self._announced(client, message)
        existing = ledger.computations.get(key)
        excess = next(filter(None, (ledger.excess(offer.path, offer.size) for offer in message.files)), "")
        if existing is None and excess:
            for stream in streams:
                ledger.drop_stream(client, stream)
            ledger.tell(client, ComputationFailed(key, excess))
            return
        if ledger.draining or (existing is not None and existing.state is not CLOSING):
            for stream in streams:
                ledger.drop_stream(client, stream)
            self._answer_for(client, key, existing)
            return
        cost = cost_of_offer(message)
        refusal = self._too_many(client) or (CROWDED if cost > ledger.holding.room(client) else "")
        if refusal:
            for stream in streams:
                ledger.drop_stream(client, stream)
            ledger.tell(client, ComputationFailed(key, refusal))
            return
        if existing is not None:
            # Its old runner goes on ending; the new one starts when that is gone, as both use one folder.
            existing.told = False
            ledger.outgoing[key] = existing
            self._results.move_to_leftovers(client, existing)
        computation = HostedComputation(
            key, client.id, message, RECEIVING, message.code, message.setup_args, awaited=streams, cost=cost
        )
        ledger.holding.count(client, cost)
        ledger.computations[key] = computation
        client.computations.add(key)
        for stream in streams:
            client.awaited[stream] = (computation, None)
        if any(not offer.stream for offer in message.files):
            computation.looking = True
            ledger.out.append(FindFiles(computation))
        self._start_if_complete(computation)

    def _too_many(self, client: Client) -> str:
        """Say that a client has as many computations here as it may; empty if it has not."""
        own, here = len(client.computations), len(self._ledger.computations) + len(self._ledger.outgoing)
        if own < COMPUTATIONS_MAX - here:
            return ""
        return (
            f"{own} computations of this client are open here already, {here} of all clients, and there may be "
            f"{COMPUTATIONS_MAX}, of which one client may have half: close some clusters, then make this one anew"
        )

    def files_found(self, event: FilesFound) -> None:
        """Ask for those files that are not there, for each content once."""
        ledger, computation = self._ledger, event.computation
        looking, computation.looking = computation.looking, False
        client = ledger.clients.get(computation.client)
        if client is None or ledger.computations.get(computation.id) is not computation or not looking:
            ledger.counters.stale += 1
            if client is None or client.lapsed:
                ledger.remove(list(event.parts.values()))
            else:
                self._keep(client, computation, dict(event.parts))
            if client is not None and computation in client.searched:
                del client.searched[computation]
                ledger.holding.count(client, -computation.cost)
            return
        if event.reason:
            self._fail_receiving(client, computation, event.reason)
            return
        offers = [offer for offer in computation.offer.files if not offer.stream]
        there = {offer.digest for offer in offers if offer.path in event.found}
        for offer in offers:
            if offer.digest not in there:
                there.add(offer.digest)
                computation.wanted_files[offer.path] = offer
        computation.found.update(event.found)
        wanted, parts = sorted(computation.wanted_files), dict(event.parts)
        computation.parts = {path: parts.pop(path) for path in wanted if path in parts}
        self._keep(client, computation, parts)
        if wanted:
            part_sizes = {path: part.size for path, part in computation.parts.items()}
            have = [part_sizes.get(path, 0) for path in wanted] if part_sizes else []
            ledger.tell(client, FilesWanted(computation.id, wanted, have))
        self._start_if_complete(computation)

    def files_coming(self, client: Client, message: FilesComing) -> None:
        """Take in that files come that were asked for.

        Raises:
            Violation: they were not asked for, or the number of a stream cannot be used.
        """
        ledger = self._ledger
        computation = ledger.owned(client, message.computation)
        for offer in message.files:
            ledger.announce(client, offer.stream)
            if computation is None or computation.state is not RECEIVING:
                ledger.drop_stream(client, offer.stream)
                continue
            self._file_comes(client, computation, offer)

    def _file_comes(self, client: Client, computation: HostedComputation, offer: FileOffer) -> None:
        if computation.wanted_files.get(offer.path) != msgspec.structs.replace(offer, stream=0, skip=0):
            raise Violation(f"file {offer.path!r} comes, which was not asked for")
        part = computation.parts.get(offer.path)
        have = 0 if part is None else part.size
        if offer.skip not in (0, have):
            raise Violation(f"file {offer.path!r} comes from byte {offer.skip} on, but {have} are there")
        del computation.wanted_files[offer.path]
        if part is not None:
            del computation.parts[offer.path]
            if not offer.skip:
                self._ledger.remove([part])
                part = None
        computation.awaited[offer.stream] = offer.path
        client.awaited[offer.stream] = (computation, None)
        assert client.link is not None  # it has just said something
        key = _part_key(client, offer)
        self._ledger.out.append(ReceiveFile(client.link, offer.stream, key, part))

    def _answer_for(self, client: Client, key: ComputationId, existing: HostedComputation | None) -> None:
        """Answer an offer that is not taken, as the computation is here or the node is about to end."""
        if existing is None:
            reason = f"the node takes no more computations: {ABOUT_TO_END}"
            self._ledger.tell(client, ComputationFailed(key, reason))
            return
        existing.told = True
        if existing.state is not CLOSING:
            existing.finishing = False
        if existing.state is READY:
            self._ledger.tell(client, ComputationReady(key))

    def _announced(self, client: Client, message: OpenComputation) -> dict[int, str]:
        """Give the streams of an offer: number -> path of the (first) file on it, `CODE` or `SETUP_ARGS`."""
        streams: dict[int, str] = {}
        contents: dict[int, tuple[bytes, int]] = {}
        paths: set[str] = set()
        if message.code_stream:
            streams[message.code_stream] = CODE
        if message.setup_stream:
            if message.setup_stream in streams:
                raise Violation(f"stream {message.setup_stream} is announced twice")
            streams[message.setup_stream] = SETUP_ARGS
        for offer in message.files:
            if offer.path in (CODE, SETUP_ARGS) or offer.path in paths:
                raise Violation(f"file name {offer.path!r} is empty or offered twice")
            paths.add(offer.path)
            if not offer.stream:
                if not offer.digest:
                    raise Violation(f"file {offer.path!r} is offered without a stream or a hash")
            elif offer.stream not in streams:
                streams[offer.stream] = offer.path
                contents[offer.stream] = offer.digest, offer.size
            elif not offer.digest or contents.get(offer.stream) != (offer.digest, offer.size):
                raise Violation(f"stream {offer.stream} is announced twice")
        for stream in sorted(streams):
            self._ledger.announce(client, stream)
        return streams

    def part_stored(self, computation: HostedComputation, stream: int, spooled: Spooled) -> None:
        """Take the code or a file, which has arrived."""
        path = computation.awaited.pop(stream)
        if path == CODE:
            computation.code = spooled
        elif path == SETUP_ARGS:
            computation.setup_args = spooled
        else:
            computation.files[path] = spooled
        self._start_if_complete(computation)

    def part_failed(self, client: Client, computation: HostedComputation, stream: int, reason: str) -> None:
        """Give up a computation, as the code or a file could not be received."""
        path = computation.awaited.pop(stream)
        what = {CODE: "the code", SETUP_ARGS: "the arguments of setup"}.get(path, path)
        self._fail_receiving(client, computation, f"{what}: {reason}")

    def _start_if_complete(self, computation: HostedComputation) -> None:
        incomplete = computation.awaited or computation.looking or computation.wanted_files
        if not incomplete and computation.id not in self._ledger.outgoing:
            advance_computation(computation, ComputationStep.RECEIVED)
            self._ledger.out.append(StartRunner(computation))

    def _fail_receiving(self, client: Client, computation: HostedComputation, reason: str) -> None:
        self._attempts.settle(client, computation, reason)
        self.drop(client, computation)
        self._tell_end(client, computation, reason)

    # -- what the runner tells

    def runner_ready(self, event: RunnerReady) -> None:
        """Hand over what has been waiting for the runner."""
        ledger = self._ledger
        computation = ledger.with_runner(event.computation)
        if computation is not None and computation.state is CLOSING:
            # It was told to end while it was being started, and may not have heard.
            ledger.out.append(CloseRunner(computation.id, computation.terminate))
            return
        if computation is None or computation.state is not PREPARING:
            ledger.counters.stale += 1
            return
        client = ledger.client_of(computation)
        advance_computation(computation, ComputationStep.LOADED)
        self._remove_parts(computation)
        ledger.slots.join(computation, client)
        ledger.tell(client, ComputationReady(computation.id))
        self._attempts.hand_over(computation, list(computation.attempts.values()))
        ledger.touch(computation)

    def runner_gone(self, event: RunnerFailed | RunnerEnded) -> None:
        """Settle what a runner leaves behind."""
        ledger = self._ledger
        computation = ledger.with_runner(event.computation)
        if computation is None or computation.state is RECEIVING:
            ledger.counters.stale += 1
            return
        client = ledger.client_of(computation)
        closing = computation.state is CLOSING or computation.finishing
        reason = event.reason or "its runner has ended"
        if event.reason or not closing:
            text = f"computation {computation.offer.name!r} of {client.name!r}: {reason}"
            ledger.out.append(Report(text, warning=True))
        trouble = event.trouble if isinstance(event, RunnerEnded) else ""
        if trouble:
            text = f"computation {computation.offer.name!r} of {client.name!r}: {trouble}"
            ledger.out.append(Report(text, warning=True))
        advance_computation(computation, ComputationStep.RUNNER_ENDED)
        self._remove_parts(computation)
        ledger.drop_arriving(client, computation)
        ledger.forget_data(client, computation.data)
        unsure = computation.held if event.reason else 0
        ledger.slots.leave(computation)
        self._attempts.settle(client, computation, reason, unsure, died=bool(event.reason))
        ledger.out.append(RemoveFolder(computation.id))
        if ledger.outgoing.get(computation.id) is computation:
            del ledger.outgoing[computation.id]
            ledger.holding.count(client, -computation.cost)
            self._start_if_complete(ledger.computations[computation.id])
        else:
            self._unlist(client, computation)
            ledger.served += 1
            self._tell_end(client, computation, "" if closing else reason, trouble)

    def slots_given_up(self, event: SlotsGivenUp) -> None:
        """Take back slots."""
        computation = self._ledger.with_runner(event.computation)
        if computation is None:
            self._ledger.counters.stale += 1
        else:
            self._ledger.slots.note_given_up(computation, event.slots)

    # -- closing

    def limit(self, client: Client, message: LimitSlots) -> None:
        """Use other slots than were asked for when it was opened.

        Raises:
            Violation: it is no number of slots.
        """
        if message.cpus < 0:
            raise Violation(f"computation {message.computation!r} is to use {message.cpus} slots")
        computation = self._ledger.owned(client, message.computation)
        if computation is not None and computation.offer.cpus != message.cpus:
            computation.offer = msgspec.structs.replace(computation.offer, cpus=message.cpus)
            self._ledger.slots.note_limit(self._ledger.now)

    def close(self, client: Client, message: CloseComputation) -> None:
        """Close when its attempts have ended, or end them."""
        computation = self._ledger.owned(client, message.computation)
        if computation is None:
            self._ledger.tell(client, ComputationClosed(message.computation))
            return
        computation.finishing = computation.told = True
        if message.terminate:
            self.terminate(client, computation)
        else:
            self._ledger.touch(computation)

    def terminate(self, client: Client, computation: HostedComputation) -> None:
        """End its attempts, then the computation."""
        if computation.terminate:
            return
        computation.finishing = computation.terminate = True
        self._attempts.cancel_pending(client, computation)
        self._ledger.drop_arriving(client, computation)
        if computation.state is RECEIVING:
            self.drop(client, computation)
            self._tell_end(client, computation, "")
        else:
            advance_computation(computation, ComputationStep.CLOSED)
            self._ledger.out.append(CloseRunner(computation.id, terminate=True))

    def close_if_done(self, computation: HostedComputation) -> None:
        """Close a computation that is to be closed and has no more attempts to run."""
        client = self._ledger.client_of(computation)
        if not (computation.finishing or client.lapsed):
            return
        if computation.state is RECEIVING:
            self.drop(client, computation)
            self._tell_end(client, computation, "")
        elif computation.state in (PREPARING, READY):
            self._ledger.drop_arriving(client, computation)
            # One that is still being prepared has nothing to clean up: do not wait for it.
            computation.terminate = computation.state is PREPARING
            advance_computation(computation, ComputationStep.CLOSED)
            self._ledger.out.append(CloseRunner(computation.id, computation.terminate))

    def discard(self, client: Client, computation: HostedComputation) -> None:
        """End a computation that nobody wants to hear of again, with all its attempts and results."""
        self._attempts.disown(client, computation, ())
        computation.told = False
        self.terminate(client, computation)

    def drop(self, client: Client, computation: HostedComputation) -> None:
        """Remove a computation that is still RECEIVING and has no attempts but ENDED ones.

        An earlier life of it whose runner is still ending takes its place again.
        """
        self._results.move_to_leftovers(client, computation)
        for stream in list(computation.awaited):
            self._ledger.drop_stream(client, stream)
        computation.awaited.clear()
        computation.wanted_files.clear()
        if client.link is None:  # it may come back, and need not send again what is here
            self._keep(client, computation, {**computation.files, **computation.parts})
            computation.files.clear()
            computation.parts.clear()
        self._remove_parts(computation)
        advance_computation(computation, ComputationStep.DROPPED)
        self._unlist(client, computation)
        before = self._ledger.outgoing.pop(computation.id, None)
        if before is not None:
            self._ledger.computations[before.id] = before
            client.computations.add(before.id)

    def _keep(self, client: Client, computation: HostedComputation, files: dict[str, Spooled]) -> None:
        """Have spool files with (the beginnings of) files kept for when they are offered again."""
        offers = {offer.path: offer for offer in computation.offer.files}
        kept = [
            (_part_key(client, offers[path]), spooled)
            for path, spooled in files.items()
            if offers[path].digest
        ]
        if kept:
            self._ledger.out.append(KeepParts(kept))
        self._ledger.remove([spooled for path, spooled in files.items() if not offers[path].digest])

    def _remove_parts(self, computation: HostedComputation) -> None:
        """Remove spool files of a computation that is loaded (then its files have been placed), or gone."""
        files = [] if computation.state is READY else list(computation.files.values())
        files += [part for part in (computation.code, computation.setup_args) if isinstance(part, Spooled)]
        files += computation.parts.values()
        computation.code = computation.setup_args = b""
        computation.files.clear()
        computation.parts.clear()
        self._ledger.remove(files)

    def _unlist(self, client: Client, computation: HostedComputation) -> None:
        del self._ledger.computations[computation.id]
        if computation.looking:  # who looks for its files still has the offer
            client.searched[computation] = None
        else:
            self._ledger.holding.count(client, -computation.cost)
        client.computations.discard(computation.id)

    def _tell_end(
        self, client: Client, computation: HostedComputation, failure: str, trouble: str = ""
    ) -> None:
        """Tell that a computation is gone: as it failed, or (then *failure* is empty) as it was closed."""
        if not computation.told:
            return
        if failure and not computation.finishing:
            self._ledger.tell(client, ComputationFailed(computation.id, failure))
            return
        before = self._ledger.computations.get(computation.id)
        if before is not None:
            before.told = True  # its runner is still ending: it is closed when that has ended
        else:
            self._ledger.tell(client, ComputationClosed(computation.id, trouble))


def _part_key(client: Client, offer: FileOffer) -> PartKey:
    return PartKey(client.id, client.owner, offer.digest, offer.size)


def _checked_id(text: str) -> ComputationId:
    """Refuse ids that must not become the name of a folder."""
    if not (text.isascii() and text.isalnum() and len(text) <= MAX_ID_CHARS):
        raise Violation(f"{text[:MAX_ID_CHARS]!r} is not the id of a computation")
    return ComputationId(text)
