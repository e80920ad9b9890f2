"""Who has no key: nothing of what they send is run, they cost little, keep nobody out, and learn nothing."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attackers import (
    HOST,
    Intruder,
    cost_of,
    credential_of,
    dial,
    drop,
    frame,
    greeting,
    greets,
    header,
    hint_of,
    own_credential,
    percentile,
    read_to_end,
    say,
)
from watching import keep_secret

from dispy.runtime.door import STRANGER_S, STRANGERS_MAX
from dispy.wire.frames import PREFACE
from dispy_transport_ssl.contexts import make_client_context

TellFigure = Callable[[str], None]

DEEP = bool(os.environ.get("DISPY_DEEP"))
LORISES = 1000 if DEEP else 200
CONNECTIONS = 500
STRANGER_SECRET = keep_secret("battery staple of a stranger")

KIB_ALLOWED = 64
CPU_MS_ALLOWED = 2.0
MARGIN = 3
"""Machines of CI are slow and busy; the figure itself is shown."""


class RunsCode:
    """Unpickled, it makes a file: what one packet did to the original."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def packets(trap: Path) -> dict[str, bytes]:
    """Return first bytes that broke the original, or break others."""
    bomb = pickle.dumps(RunsCode(trap))
    seeded = random.Random(3)
    return {
        "pickle": bomb,
        "pickle after its length": struct.pack(">I", len(bomb)) + bomb,
        "pickle after a header": PREFACE + header(len(bomb)) + bomb,
        "pickle in a message": PREFACE + frame(greeting(name=bomb.decode("latin-1"))),
        "python": b"import os; os.abort()\n",
        "4 GiB": struct.pack(">I", 2**32 - 1) * 4,
        "4 GiB of a frame": PREFACE + header(2**32 - 1),
        "4 GiB on a stream": PREFACE + header(2**32 - 1, 2**32 - 1) + bytes(1000),
        "frame without a greeting": PREFACE + header(1) + b"\x90",
        "TLS record": b"\x16\x03\x01\xff\xff" + bytes(70000),
        "TLS greeting of 16 MiB": b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(16384 - 4) + bytes(70000),
        "TLS alert": b"\x15\x03\x03\x00\x02\x02\x28",
        "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "nothing but zeros": bytes(100_000),
        "random": seeded.randbytes(100_000),
    }


NAMES = list(packets(Path()))


@pytest.mark.parametrize("name", NAMES)
def test_first_bytes_run_nothing(victim: Any, tmp_path: Path, name: str) -> None:
    trap = tmp_path / "trap"
    with cost_of(victim.process.pid) as cost:
        said = say(victim.port, packets(trap)[name])
    assert len(said) < 100
    assert PREFACE not in said
    assert cost.kib < 4096
    assert not trap.exists()
    victim.check()


def test_first_bytes_run_nothing_at_an_open_node(start_node: Callable[..., Any], tmp_path: Path) -> None:
    node = start_node("--open", "-i", HOST)
    trap = tmp_path / "trap"
    for data in packets(trap).values():
        sock = dial(node.port)
        with cost_of(node.process.pid) as cost, contextlib.suppress(OSError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            read_to_end(sock)
        drop(sock)
        assert cost.kib < 4096
    assert not trap.exists()
    assert node.process.poll() is None
    node.wait_for("peer announced a frame of 4294967295 bytes")
    assert "a bug in dispy" not in node.log


def test_length_of_4_gib_after_the_handshake(victim: Any) -> None:
    """Before the greeting a frame may have 16 KiB, after it a few MiB; nothing is stored for what is announced."""
    with (
        cost_of(victim.process.pid) as cost,
        Intruder(victim.port, own_credential()) as early,
        Intruder(victim.port, own_credential(), greeting()) as late,
    ):
        early.send(PREFACE, header(2**32 - 1))
        assert "announced a frame of 4294967295 bytes on channel 0, the limit is 16384" in early.farewell()
        late.send(header(2**32 - 1))
        assert "announced a frame of 4294967295 bytes on channel 0, the limit is 4194304" in late.farewell()
    assert cost.kib < 4096
    victim.check()


def test_silent_ones_are_shown_out(victim: Any) -> None:
    """Who says nothing, who stops in the middle, and who has the key but does not greet."""
    hello = client_hello(hint_of(own_credential()))
    began = time.monotonic()
    with (
        dial(victim.port) as silent,
        dial(victim.port) as halting,
        Intruder(victim.port, own_credential()) as known,
    ):
        halting.sendall(hello[: len(hello) // 2])
        for sock in (silent, halting, known.socket):
            read_to_end(sock, STRANGER_S + 5)
    assert time.monotonic() - began > STRANGER_S - 1, "they have that time if nobody else comes"
    victim.check()


class Lorises:
    """Half-open connections: each says a byte of a handshake now and then, and comes back when it is shown out."""

    def __init__(self, port: int, count: int) -> None:
        self.sockets: list[socket.socket] = []
        self.came = 0
        self._port = port
        self._count = count
        self._hello = client_hello(None)
        self._ended = threading.Event()
        self._full = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Lorises:
        self._thread.start()
        assert self._full.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for sock in self.sockets:
            drop(sock)

    def _run(self) -> None:
        place = 0
        while not self._ended.is_set():
            while len(self.sockets) < self._count and not self._ended.is_set():
                with contextlib.suppress(OSError):
                    self.sockets.append(dial(self._port))
                    self.came += 1
            self._full.set()
            for sock in list(self.sockets):
                try:
                    sock.sendall(self._hello[place % 100 :][:1] if place else b"\x16")
                except OSError:
                    self.sockets.remove(sock)
                    drop(sock)
            place += 1
            self._ended.wait(0.5)


def test_slow_lorises_keep_nobody_out(victim: Any, tell_figure: TellFigure) -> None:
    greets(victim.port)  # key and context are there
    alone = percentile([greets(victim.port) for _ in range(30)], 99)
    with Lorises(victim.port, LORISES) as lorises:
        times = []
        for _ in range(100):
            times.append(greets(victim.port))
            time.sleep(0.02)
    tell_figure(
        f"X8: {LORISES} slow-loris connections ({lorises.came} in all): connecting takes p50 "
        f"{percentile(times, 50) * 1000:.0f} ms, p99 {percentile(times, 99) * 1000:.0f} ms "
        f"(alone p99 {alone * 1000:.0f} ms)"
    )
    assert percentile(times, 99) < 2
    victim.check()


def test_half_open_connections_are_bounded(victim: Any) -> None:
    """The one that has been there longest has to go."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(dial(victim.port)) for _ in range(STRANGERS_MAX + 20)]
        began = time.monotonic()
        for sock in sockets[:20]:
            assert read_to_end(sock, 3) == b""
        assert time.monotonic() - began < STRANGER_S - 2, "not because their time was over"
        sockets[-1].setblocking(False)
        with pytest.raises(BlockingIOError):
            sockets[-1].recv(1)
    victim.check()


def client_hello(name: str | None, context: ssl.SSLContext | None = None) -> bytes:
    """Return the first bytes of a handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = context or make_client_context(credential_of(STRANGER_SECRET))
    connection = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


WAYS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "other bytes": lambda: b"GET / HTTP/1.1\r\n\r\n",
    "a handshake without hint": lambda: client_hello(None),
    "a handshake with a replayed hint": lambda: client_hello(hint_of(own_credential())),
    "40 KiB of a handshake": lambda: (b"\x16\x03\x01\x40\x00\x01\x00\xff\xff" + bytes(16380)) + bytes(24000),
}


@pytest.mark.parametrize("way", WAYS)
def test_cost_of_a_stranger(victim: Any, tell_figure: TellFigure, way: str) -> None:
    data = WAYS[way]()
    for _ in range(20):  # what is allocated once
        drop(dial(victim.port))
    greets(victim.port)
    sockets: list[socket.socket] = []
    with cost_of(victim.process.pid, CONNECTIONS) as cost:
        for number in range(CONNECTIONS):
            sock = dial(victim.port)
            sockets.append(sock)
            if data:
                with contextlib.suppress(OSError):
                    sock.sendall(data)
            if number % 25 == 24:
                cost.look()
        greets(victim.port)
    for sock in sockets:
        drop(sock)
    tell_figure(
        f"X2: a stranger who sends {way}: {cost.kib:.1f} KiB, {cost.cpu_ms:.2f} ms of CPU ({CONNECTIONS} connections)"
    )
    assert cost.kib < KIB_ALLOWED
    assert cost.cpu_ms < CPU_MS_ALLOWED * MARGIN
    victim.check()


def records(data: bytes) -> Iterator[int]:
    """Give the types of TLS records."""
    while len(data) >= 5:
        yield data[0]
        data = data[5 + int.from_bytes(data[3:5], "big") :]


@pytest.mark.parametrize("name", [None, "localhost", "0" * 16 + "." + "0" * 32 + ".dispy", "x" * 63])
def test_strangers_learn_nothing(victim: Any, name: str | None) -> None:
    """Who has no hint gets an alert: not even the handshake begins in which a certificate would be shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    said = say(victim.port, client_hello(name, context))
    assert list(records(said)) == [0x15]
    assert len(said) == 7
    with dial(victim.port) as sock, pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        context.wrap_socket(sock, server_hostname=name)
    victim.check()
