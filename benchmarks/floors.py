"""What the machine itself can do, for the shares that benchmarks/run.py prints: ``python floors.py NAME``."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import pickle
import select
import shutil
import socket
import ssl
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dispy.interfaces import Credential

SECONDS = 1.5
SLOTS = 2


def fork_jobs() -> float:
    """Fork, one pickled call and result through a pipe, reap; two at a time. Jobs a second."""
    gc.disable()
    gc.freeze()
    payload = pickle.dumps((1,))

    def begin() -> tuple[int, int]:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            os.write(writing, pickle.dumps(*pickle.loads(payload)))
            os._exit(0)
        os.close(writing)
        return reading, pid

    running: dict[int, int] = {}
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        while len(running) < SLOTS:
            reading, pid = begin()
            running[reading] = pid
        for reading in select.select(list(running), [], [])[0]:
            assert pickle.loads(os.read(reading, 65536)) == 1
            os.close(reading)
            os.waitpid(running.pop(reading), 0)
            count += 1
    rate = count / (time.perf_counter() - began)
    for pid in running.values():
        os.waitpid(pid, 0)
    return rate


def programs() -> float:
    """Fork and exec of ``true``, two at a time. Runs a second."""
    true = shutil.which("true") or "true"
    count, began, running = 0, time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        while running < SLOTS:
            if os.fork() == 0:
                os.execv(true, [true])
            running += 1
        os.wait()
        running -= 1
        count += 1
    rate = count / (time.perf_counter() - began)
    while running:
        os.wait()
        running -= 1
    return rate


def same(number: int) -> int:
    """Do nothing."""
    return number


def pool() -> float:
    """No-op jobs through concurrent.futures.ProcessPoolExecutor, submitted one by one. Jobs a second."""
    with ProcessPoolExecutor(SLOTS) as executor:
        executor.submit(same, 1).result()
        began = time.perf_counter()
        futures = [executor.submit(same, number) for number in range(10_000)]
        for number, future in enumerate(futures):
            assert future.result() == number
        return 10_000 / (time.perf_counter() - began)


def socket_copy() -> float:
    """1 GB in one direction over a loopback TCP connection. MB a second."""
    server = socket.create_server(("127.0.0.1", 0))
    block, count = bytes(1_000_000), 1000

    def send() -> None:
        with socket.create_connection(server.getsockname()) as sock:
            for _ in range(count):
                sock.sendall(block)

    thread = threading.Thread(target=send)
    thread.start()
    sock, _ = server.accept()
    began, received = time.perf_counter(), 0
    while data := sock.recv(262_144):
        received += len(data)
    rate = received / 1e6 / (time.perf_counter() - began)
    thread.join()
    return rate


def ssl_copy() -> float:
    """1 GB in one direction over a loopback connection with TLS 1.3 and the standard library. MB a second."""
    contexts = tls_contexts()
    server = socket.create_server(("127.0.0.1", 0))
    block, count = bytes(1_000_000), 1000

    def send() -> None:
        plain = socket.create_connection(server.getsockname())
        with contexts[ssl.Purpose.SERVER_AUTH].wrap_socket(plain) as sock:
            for _ in range(count):
                sock.sendall(block)

    # In a process of its own, as nodes are: the two sides together would have one interpreter's lock.
    sender = multiprocessing.get_context("fork").Process(target=send)
    sender.start()
    plain, _ = server.accept()
    with contexts[ssl.Purpose.CLIENT_AUTH].wrap_socket(plain, server_side=True) as sock:
        began, received = time.perf_counter(), 0
        while data := sock.recv(262_144):
            received += len(data)
        rate = received / 1e6 / (time.perf_counter() - began)
    sender.join()
    return rate


def tls_contexts() -> dict[ssl.Purpose, ssl.SSLContext]:
    """Give a context for each side (that of the client by SERVER_AUTH), of certificates as nodes have them."""
    chosen = _credential()
    contexts = {}
    with tempfile.NamedTemporaryFile() as file:
        file.write(chosen.chain + chosen.key)
        file.flush()
        for side in (ssl.Purpose.SERVER_AUTH, ssl.Purpose.CLIENT_AUTH):
            context = contexts[side] = ssl.create_default_context(side, cadata=chosen.authorities.decode())
            context.check_hostname = False
            context.load_cert_chain(file.name)
    return contexts


def _credential() -> Credential:
    from dispy.interfaces import SecurityRequest
    from dispy.model import AccessRole
    from dispy_auth_secret.credentials import SecretCredentials

    request = SecurityRequest(AccessRole.ADMIN, secret="a passphrase for a benchmark")
    return SecretCredentials().load(request)[0]


if __name__ == "__main__":
    chosen = {
        "fork_jobs": fork_jobs,
        "programs": programs,
        "pool": pool,
        "socket_copy": socket_copy,
        "ssl_copy": ssl_copy,
    }
    print(json.dumps({"rate": chosen[sys.argv[1]]()}))
