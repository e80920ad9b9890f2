"""What the node holds in memory for its clients, and how much each may have there.

It counts, about: arguments until their job has started, results and news until they are acknowledged, code, and what
is remembered of each job, computation, file, shared data and announced stream. What lies in spool files does not count.

A client that would hold more than its share (`dispy.wire.shares`) gets its jobs rejected. Results come all the same, of
jobs that were taken before; so a client that holds too much without them is *choked*: none of its jobs is started
until it has acknowledged enough. What a runner then still tells is taken up to a reserve, as jobs that run cannot be
held up; beyond that only code of jobs that has got hold of a runner would go on, and its results lose their bodies.
"""

from __future__ import annotations

from dispy.wire.messages import OpenComputation, SendFile
from dispy.wire.shares import Shares
from dispy_node.engine.records import Attempt, Client, KeptNews
from dispy_node.engine.slots import SlotShares

MEMORY_BYTES = 512 * 1024**2
"""What all clients together may have at a node, unless that is told otherwise; one alone may have half of it."""

ATTEMPT_BYTES = 512
NEWS_BYTES = 512
FILE_BYTES = 512
DATA_BYTES = 512
STREAM_BYTES = 128
COMPUTATION_BYTES = 16 * 1024
"""What is remembered of each, besides what comes with it, about."""

NEED_BYTES = 48
"""What it takes to remember that a job needs shared data."""

CROWDED = "the node holds as much for this client as it may: results that it has not acknowledged, or jobs that wait"


class Holding:
    """The accounts of all clients.

    Args:
        total_bytes: how much there may be.
        slots: told when a client is choked, and when not any more.
    """

    def __init__(self, total_bytes: int, slots: SlotShares) -> None:
        self.shares = Shares(total_bytes)
        self.reserve = max(1, total_bytes // 8)
        """What results of jobs that run may take beyond a client's share."""
        self._slots = slots
        self._choked: dict[Client, None] = {}

    def room(self, client: Client) -> int:
        """Tell how many more bytes a client may have here; negative if it has too many."""
        return self.shares.room(client.held)

    def count(self, client: Client, size: int) -> None:
        """Take note that *size* bytes more are held for a client, or less if that is negative."""
        client.held += size
        self.shares.held += size
        if size > 0:
            if not client.choked and self.room(client) < 0:
                client.choked = self._slots.due = True
                self._choked[client] = None
        elif self._choked:
            self._relieve()

    def count_data(self, client: Client, number: int) -> None:
        """Take note of so much shared data more that is there for a client or arrives, or less."""
        client.data += number
        self.count(client, number * DATA_BYTES)

    def _relieve(self) -> None:
        """Let those go on that hold well less than their share again."""
        free = self.shares.total - self.shares.held
        for client in [client for client in self._choked if 4 * client.held <= 3 * free]:
            client.choked = False
            self._slots.due = True
            del self._choked[client]

    def count_news(self, client: Client, attempt: Attempt, kept: KeptNews, sign: int = 1) -> None:
        """Take note of news that is kept, or (then *sign* is -1) not any more."""
        news = kept.news
        size = sign * (NEWS_BYTES + len(news.body) + len(news.path))
        attempt.cost += size
        self.count(client, size)

    def check_invariants(self, clients: dict[Client, int]) -> None:
        """Assert what must hold between events, given what there is of each client."""
        for client, size in clients.items():
            assert client.held == size, (client.held, size)
            assert client.choked == (client in self._choked), client
        assert self.shares.held == sum(clients.values()), self.shares.held
        assert self._choked.keys() <= clients.keys(), "a client is choked that is gone"


def cost_of_offer(message: OpenComputation) -> int:
    """Tell what a computation takes in memory."""
    words = (
        message.computation,
        message.name,
        message.executor,
        message.isolation,
        message.dest_path,
        message.start_method,
    )
    files = sum(FILE_BYTES + len(offer.path) + len(offer.digest) for offer in message.files)
    return COMPUTATION_BYTES + sum(map(len, words)) + len(message.code) + len(message.setup_args) + files


def cost_of_file(message: SendFile) -> int:
    """Tell what a file takes in memory that is on its way."""
    return FILE_BYTES + len(message.file.path) + len(message.file.digest) + len(message.computation)
