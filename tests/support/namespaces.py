"""Machines and networks of their own for tests: Linux network namespaces, joined by bridges and routers.

Each machine is a namespace. Each local network is a namespace too, with a bridge in it, so that nothing here is on a
network of the real machine. A router is a machine in several networks that forwards; it forwards no broadcasts.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

COMMAND_S = 20.0
LOSSY_CABLE = str(Path(__file__).with_name("lossy_cable.py"))


class Unavailable(Exception):
    """This machine has no namespaces for us; the message says why."""


def run_command(*words: str) -> str:
    """Run a command that must end with status 0; return what it printed."""
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S, check=False
    )
    if done.returncode:
        raise Unavailable(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


@dataclass
class Talk:
    """A program that runs on a machine, and what it has printed."""

    process: subprocess.Popen[bytes]
    text: str = ""

    def wait_for(self, what: str, timeout_s: float = 30.0) -> float:
        """Read until *what* was printed; return how long that took, in seconds."""
        assert self.process.stdout is not None
        began = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while what not in self.text:
                left_s = began + timeout_s - time.monotonic()
                if left_s <= 0 or (selector.select(left_s) and not self._read()):
                    raise AssertionError(f"{what!r} was not printed within {timeout_s:g} s:\n{self.text}")
        return time.monotonic() - began

    def _read(self) -> bool:
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), 65536)
        self.text += data.decode(errors="replace")
        return bool(data)

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Ask it to end, and kill it if it does not."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


@dataclass
class Machine:
    """A namespace that stands for a machine."""

    lab: Lab
    name: str
    namespace: str
    links: dict[str, str] = field(default_factory=dict)
    """Name of a network -> name of the interface in it."""
    ports: dict[str, str] = field(default_factory=dict)
    """Name of a network -> name of the switch's end of the cable."""

    def run(self, *words: str) -> str:
        """Run a command there."""
        return run_command("ip", "netns", "exec", self.namespace, *words)

    def start(self, *words: str, **variables: str) -> Talk:
        """Start a program there (`Lab.start`)."""
        return self.lab.start(self.namespace, *words, **variables)

    def python(self, *words: str, **variables: str) -> Talk:
        """Start this Python there."""
        return self.start(sys.executable, *words, **variables)

    def join(self, network: str, *addresses: str) -> None:
        """Plug the machine into a network, with these addresses (``10.0.0.1/24``)."""
        number = next(self.lab.numbers)
        inside, outside = f"eth{len(self.links)}", f"p{number}"
        switch = self.lab.networks[network]
        run_command(
            *("ip", "-n", switch, "link", "add", outside, "type", "veth"),
            *("peer", "name", inside, "netns", self.namespace),
        )
        run_command("ip", "-n", switch, "link", "set", outside, "master", "br0", "up")
        self.links[network], self.ports[network] = inside, outside
        for address in addresses:
            broadcast = [] if ":" in address else ["broadcast", "+"]
            no_wait = ["nodad"] if ":" in address else []
            run_command(
                "ip", "-n", self.namespace, "addr", "add", address, *broadcast, "dev", inside, *no_wait
            )
        run_command("ip", "-n", self.namespace, "link", "set", inside, "up")

    def route(self, gateway: str) -> None:
        """Send by *gateway* what is for other networks."""
        run_command("ip", "-n", self.namespace, "route", "add", "default", "via", gateway)

    def lose(self, network: str, percent: int) -> None:
        """Lose a share of all packets between the machine and a network, in both directions.

        All machines of the network must be there already.
        """
        switch, port = self.lab.networks[network], self.ports[network]
        near, far = f"{port}n", f"{port}f"
        run_command("ip", "-n", switch, "link", "add", near, "type", "veth", "peer", "name", far)
        run_command("ip", "-n", switch, "link", "set", port, "nomaster", "promisc", "on")
        run_command("ip", "-n", switch, "link", "set", near, "up", "promisc", "on")
        run_command("ip", "-n", switch, "link", "set", far, "master", "br0", "up")
        for machine in self.lab.machines:  # those that are made later leave packets unfinished
            if network in machine.links:
                machine.run(sys.executable, LOSSY_CABLE, "bare", machine.links[network])
        seed = next(self.lab.numbers)
        cable = [sys.executable, LOSSY_CABLE, "plug", port, near, str(percent), str(seed)]
        self.lab.start(switch, *cable).wait_for("plugged in")


class Lab:
    """Makes machines and networks; `close` takes everything away."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.networks: dict[str, str] = {}
        self.machines: list[Machine] = []
        self.talks: list[Talk] = []
        self.numbers = itertools.count()
        self._namespaces: list[str] = []

    def start(self, namespace: str, *words: str, **variables: str) -> Talk:
        """Start a program in a namespace; all of its output comes together, and it ends with the test."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        environment.pop("DISPY_INTERFACES", None)
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environment, **variables},
        )
        talk = Talk(process)
        self.talks.append(talk)
        return talk

    def _make_namespace(self, name: str) -> str:
        namespace = f"{self.prefix}-{name}"
        run_command("ip", "netns", "add", namespace)
        self._namespaces.append(namespace)
        run_command("ip", "-n", namespace, "link", "set", "lo", "up")
        return namespace

    def network(self, name: str) -> str:
        """Make a local network."""
        namespace = self.networks[name] = self._make_namespace(name)
        run_command("ip", "-n", namespace, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        run_command("ip", "-n", namespace, "link", "set", "br0", "up")
        return name

    def machine(self, name: str, networks: dict[str, Sequence[str]]) -> Machine:
        """Make a machine with addresses in networks."""
        machine = Machine(self, name, self._make_namespace(name))
        self.machines.append(machine)
        for network, addresses in networks.items():
            machine.join(network, *addresses)
        return machine

    def router(self, name: str, networks: dict[str, Sequence[str]]) -> Machine:
        """Make a machine that forwards between its networks."""
        router = self.machine(name, networks)
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        return router

    def close(self) -> None:
        """End all programs and remove all namespaces, whatever has happened."""
        for talk in self.talks:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                talk.end()
        for namespace in reversed(self._namespaces):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)


def check_available() -> None:
    """Find out whether namespaces can be made here.

    Raises:
        Unavailable: they cannot.
    """
    if sys.platform != "linux":
        raise Unavailable("network namespaces are of Linux")
    if os.geteuid() != 0:
        raise Unavailable("network namespaces need root")
    if shutil.which("ip") is None:
        raise Unavailable("there is no `ip`: install iproute2")
    probe = f"dispy-probe-{os.getpid()}"
    try:
        run_command("ip", "netns", "add", probe)
        run_command("ip", "-n", probe, "link", "add", "br0", "type", "bridge")
        run_command("ip", "-n", probe, "link", "add", "p0", "type", "veth", "peer", "name", "p1")
    finally:
        subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False)


_labs = itertools.count()


@pytest.fixture(scope="session")
def namespaces_work() -> None:
    """Skip the test if this machine has no namespaces for it."""
    try:
        check_available()
    except Unavailable as error:
        pytest.skip(f"no network namespaces: {error}")


@pytest.fixture
def lab(namespaces_work: None) -> Iterator[Lab]:
    """Give a lab; everything in it ends with the test."""
    made = Lab(f"dsp{os.getpid()}x{next(_labs)}")
    try:
        yield made
    finally:
        made.close()


def bare(address: str) -> str:
    """Return an address without the length of its network."""
    return str(ipaddress.ip_interface(address).ip)


def start_node(machine: Machine, folder: Path, *options: str) -> Talk:
    """Start a node on a machine; it keeps its identity in *folder*, and is up when this returns."""
    talk = machine.python(
        *(
            "-m",
            "dispy_node",
            "-c",
            "1",
            "--name",
            machine.name,
            "--dest-path-prefix",
            str(folder / machine.name),
        ),
        *options,
    )
    talk.wait_for("listens on")
    return talk
