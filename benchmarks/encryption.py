"""What encryption costs, for benchmarks/run.py: ``python encryption.py NAME [ADDRESS PID [--open]]``; prints JSON."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import ssl
import sys
import time
from functools import partial

import trio

import dispy
from dispy.interfaces import Credential, Peer, SecurityRequest
from dispy.model import AccessRole, LinkId, Role
from dispy.runtime.greeting import make_hello
from dispy.runtime.link import Link
from dispy.wire.rights import EVERYTHING
from dispy.wire.session import Session
from dispy_auth_secret.credentials import SecretCredentials
from dispy_transport_ssl.contexts import make_client_context, make_gate
from dispy_transport_ssl.security import SslSecurity

PASSPHRASE = "a passphrase for a benchmark"

NODES = 500


def same(data: bytes) -> bytes:
    """Give the argument back."""
    return data


def kibibytes(address: str, pid: str, *options: str) -> dict[str, float]:
    """Jobs with 1 KiB of argument and of result, in processes that are used again."""
    secret = dispy.OPEN if "--open" in options else None
    data, count = os.urandom(1024), 30_000
    with dispy.JobCluster(same, nodes=[address], isolation="worker", secret=secret) as cluster:
        for _ in range(20):
            assert cluster.submit(data)() == data
        began = time.perf_counter()
        jobs = [cluster.submit(data) for _ in range(count)]
        assert all(job() == data for job in jobs)
        return {"rate": count / (time.perf_counter() - began)}


def handshakes() -> dict[str, float]:
    """CPU of a handshake over a loopback connection, both sides together; and of `ssl` alone, without connection."""
    ours, bare = trio.run(_shake_hands, 300), _bare_handshake(300)
    return {"handshake CPU ms": ours, "bare handshake CPU ms": bare, "of bare handshake": ours / bare}


def _bare_handshake(count: int) -> float:
    credential = _credential()
    client_context = make_client_context(credential)
    (server_context,) = make_gate([credential]).choices
    for number in range(count + 20):
        if number == 20:
            began = time.process_time()
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = [client_context.wrap_bio(down, up), server_context.wrap_bio(up, down, server_side=True)]
        while ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                ends[0].do_handshake()
                ends.pop(0)
                continue
            ends.reverse()
    return (time.process_time() - began) / count * 1000


async def _shake_hands(count: int) -> float:
    security, credential = SslSecurity(), _credential()
    served = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        await security.accept(stream, [credential], wants=frozenset(AccessRole))
        served.set()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        for number in range(count + 20):
            if number == 20:
                began = time.process_time()
            served = trio.Event()
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            tls, _identity = await security.connect(stream, credential, wants=frozenset(AccessRole))
            await served.wait()
            await trio.aclose_forcefully(tls)
        took_s = time.process_time() - began
        nursery.cancel_scope.cancel()
    return took_s / count * 1000


def many_nodes() -> dict[str, float]:
    """Seconds until NODES nodes are connected to one client: what they say of themselves comes from one process."""
    os.environ["DISPY_SECRET"] = PASSPHRASE
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    reader, writer = os.pipe()
    crowd = os.fork()
    if not crowd:
        trio.run(_be_nodes, writer)
        os._exit(0)
    try:
        ports = json.loads(os.fdopen(reader).readline())
        began = time.perf_counter()
        with dispy.JobCluster(same, nodes=[f"127.0.0.1:{port}" for port in ports]) as cluster:
            engine = cluster._runtime.driver.engine
            for _ in range(6000):
                if len(engine.nodes) == NODES:
                    break
                time.sleep(0.01)
            took_s = time.perf_counter() - began
            assert len(engine.nodes) == NODES, len(engine.nodes)
            cluster.close(timeout=0, terminate=True)
    finally:
        os.kill(crowd, signal.SIGKILL)
        os.waitpid(crowd, 0)
    return {f"{NODES} nodes s": took_s}


async def _be_nodes(writer: int) -> None:
    """Greet as NODES different nodes, each at a port of its own."""
    security, credential = SslSecurity(), _credential()

    async def serve(name: str, stream: trio.SocketStream) -> None:
        tls, _identity = await security.accept(stream, [credential], wants=frozenset(AccessRole))
        hello = make_hello(Role.NODE, f"{int(name):032x}", name=name, cpus=1)
        session = Session(hello, now=trio.current_time(), accepts=frozenset({Role.CLIENT}), roles=EVERYTHING)
        await Link(LinkId(1), tls, Peer("127.0.0.1", is_local=True), session).run(lambda link, events: None)

    async with trio.open_nursery() as nursery:
        ports = []
        for number in range(NODES):
            (listener,) = await nursery.start(
                partial(trio.serve_tcp, partial(serve, str(number)), 0, host="127.0.0.1")
            )
            ports.append(listener.socket.getsockname()[1])
        os.write(writer, json.dumps(ports).encode() + b"\n")


def _credential() -> Credential:
    request = SecurityRequest(AccessRole.NODE, secret=PASSPHRASE)
    return SecretCredentials().load(request)[0]


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    print(json.dumps(globals()[name](*arguments)))
