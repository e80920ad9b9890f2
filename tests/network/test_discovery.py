"""Nodes are found, or not, on several machines and networks."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

from namespaces import Lab, Machine, Talk, start_node

CLIENT = Path(__file__).with_name("client.py")
QUIET_S = 1.5
"""What has not been found by then never will be, where nothing is lost."""


def start_client(machine: Machine, nodes: list[str], **options: object) -> Talk:
    client = machine.python(str(CLIENT), json.dumps(nodes), json.dumps(options))
    client.wait_for("looking")
    return client


def wait_until_explained(client: Talk, *texts: str, timeout_s: float = 5.0) -> None:
    """Wait until the cluster explains what is the matter with all of these texts."""
    ends_at = time.monotonic() + timeout_s
    while True:
        client.text = ""
        client.tell("explain")
        client.wait_for("explained")
        if all(text in client.text for text in texts):
            return
        assert time.monotonic() < ends_at, client.text
        time.sleep(0.1)


def one_network(lab: Lab, *names: str) -> list[Machine]:
    """Make a network with these machines, 10.81.1.1 and so on."""
    lab.network("lan")
    return [
        lab.machine(name, {"lan": [f"10.81.1.{number}/24"]}) for number, name in enumerate(names, start=1)
    ]


def two_networks(lab: Lab) -> tuple[Machine, Machine, Machine]:
    """Make a client and a node in one network, and a node in another behind a router."""
    lab.network("lan")
    lab.network("far")
    lab.router("router", {"lan": ["10.81.1.254/24"], "far": ["10.81.2.254/24"]})
    client = lab.machine("client", {"lan": ["10.81.1.1/24"]})
    near = lab.machine("near", {"lan": ["10.81.1.2/24"]})
    far = lab.machine("far1", {"far": ["10.81.2.2/24"]})
    client.route("10.81.1.254")
    near.route("10.81.1.254")
    far.route("10.81.2.254")
    return client, near, far


def test_broadcast_finds_the_local_network_only_and_a_named_node_is_found_behind_a_router(
    lab: Lab, tmp_path: Path
) -> None:
    client, near, far = two_networks(lab)
    start_node(near, tmp_path)
    start_node(far, tmp_path)
    wild = start_client(client, ["10.*"])
    named = start_client(client, ["10.81.2.2"])
    wild.wait_for("node near usable at 10.81.1.2")
    named.wait_for("node far1 usable at 10.81.2.2")
    named.tell("1")
    named.wait_for("result 2 from 10.81.2.2")
    time.sleep(QUIET_S)
    for talk in (wild, named):
        talk.tell("explain")
        talk.wait_for("explained")
    assert "far1" not in wild.text
    assert "near" not in named.text
    assert "looked for on: lo (127.0.0.1), eth0 (10.81.1.1)" in wild.text
    assert "looked for" not in named.text  # a list without wildcard causes no broadcast


def test_node_tells_a_client_behind_a_router_that_it_is_there(lab: Lab, tmp_path: Path) -> None:
    client, _near, far = two_networks(lab)
    wild = start_client(client, ["10.81.2.*"])
    start_node(far, tmp_path, "--scheduler-host", "10.81.1.1")
    wild.wait_for("node far1 usable at 10.81.2.2", 5)


def test_patterns_choose_among_those_that_are_found(lab: Lab, tmp_path: Path) -> None:
    client, one, two = one_network(lab, "client", "one", "two")
    start_node(one, tmp_path)
    start_node(two, tmp_path)
    third = start_client(client, ["10.81.1.3*"])
    second = start_client(client, ["*.2"])
    third.wait_for("node two usable at 10.81.1.3")
    second.wait_for("node one usable at 10.81.1.2")
    time.sleep(QUIET_S)
    for talk, other in ((third, "node one usable"), (second, "node two usable")):
        talk.tell("explain")
        talk.wait_for("a node that nodes=[...] does not ask for")
        assert other not in talk.text


def test_multicast_reaches_a_node_that_broadcast_does_not(lab: Lab, tmp_path: Path) -> None:
    lab.network("lan")
    client = lab.machine("client", {"lan": ["10.81.1.1/24"]})
    node = lab.machine("node", {"lan": ["10.81.1.2/25"]})  # whose broadcasts have another address
    for machine in (client, node):  # by IPv6 they would find each other in any case
        machine.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    start_node(node, tmp_path, "--ipv4-udp-multicast")
    deaf = start_client(client, ["*.2"])
    heard = start_client(client, ["*.3", "10.81.1.*"], ipv4_udp_multicast=True)
    heard.wait_for("node node usable at 10.81.1.2", 5)
    time.sleep(QUIET_S)
    assert "usable" not in deaf.text


def test_network_without_ipv4(lab: Lab, tmp_path: Path) -> None:
    lab.network("lan")
    client = lab.machine("client", {"lan": ["fd81::1/64"]})
    node = lab.machine("node", {"lan": ["fd81::2/64"]})
    linked = lab.machine("linked", {"lan": ["fe80::3/64"]})
    start_node(node, tmp_path)
    start_node(linked, tmp_path)
    found = start_client(client, ["fd81::*", "fe80::*"])
    found.wait_for("node node usable at fd81::2", 5)
    found.wait_for("node linked usable at fe80::", 5)
    found.tell("1")
    found.wait_for("result 2 from ")


def test_node_that_comes_late_vanishes_and_returns(lab: Lab, tmp_path: Path) -> None:
    client, node = one_network(lab, "client", "node")
    cluster = start_client(client, ["10.81.*"])
    cluster.tell("1")
    time.sleep(4.0)  # the pauses between questions have grown
    first = start_node(node, tmp_path)
    assert cluster.wait_for("result 2 from 10.81.1.2", 5) < 1.5
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    cluster.tell("2")
    time.sleep(4.0)  # and so have those between attempts to reach it
    start_node(node, tmp_path)
    assert cluster.wait_for("result 3 from 10.81.1.2", 10) < 1.5
    assert cluster.text.count("node node usable") == 2
    assert cluster.text.count("node node lost") == 1


def test_cluster_of_named_nodes_finds_others_when_it_is_told_to(lab: Lab, tmp_path: Path) -> None:
    client, one, two = one_network(lab, "client", "one", "two")
    start_node(one, tmp_path)
    start_node(two, tmp_path)
    cluster = start_client(client, ["10.81.1.2"])
    cluster.wait_for("node one usable at 10.81.1.2")
    time.sleep(QUIET_S)
    assert "two" not in cluster.text
    cluster.tell("allocate *")
    cluster.wait_for("node two usable at 10.81.1.3", timeout_s=5.0)


def test_two_clients_on_one_machine_find_all_nodes_of_another(lab: Lab, tmp_path: Path) -> None:
    client, node = one_network(lab, "client", "node")
    clients = [start_client(client, ["10.81.*"]) for _ in range(2)]
    start_node(node, tmp_path / "first", "-p", "0", "--name", "first")
    start_node(node, tmp_path / "second", "-p", "0", "--name", "second")
    for talk in clients:
        talk.wait_for("node first usable", 5)
        talk.wait_for("node second usable", 5)


def test_client_in_two_networks_and_one_that_comes_later(lab: Lab, tmp_path: Path) -> None:
    lab.network("lan")
    lab.network("other")
    lab.network("third")
    client = lab.machine("client", {"lan": ["10.81.1.1/24"], "other": ["10.81.2.1/24"]})
    one = lab.machine("one", {"lan": ["10.81.1.2/24"]})
    # It tells an address to which no way leads from the client, too.
    both = lab.machine("both", {"other": ["10.81.2.2/24"], "third": ["10.81.3.2/24"]})
    start_node(one, tmp_path)
    start_node(both, tmp_path)
    cluster = start_client(client, ["10.*"])
    cluster.wait_for("node one usable at 10.81.1.2", 5)
    cluster.wait_for("node both usable at 10.81.2.2", 5)
    late = lab.machine("late", {"third": ["10.81.3.9/24"]})
    start_node(late, tmp_path)
    client.join("third", "10.81.3.1/24")
    cluster.wait_for("node late usable at 10.81.3.9", 6)


def test_with_a_fifth_of_all_packets_lost_all_are_found_within_five_seconds(lab: Lab, tmp_path: Path) -> None:
    client, *machines = one_network(lab, "client", "one", "two", "three")
    for machine in machines:  # the client's cable is a good one: each packet has one chance to get lost
        machine.lose("lan", 20)
    for machine in machines:
        start_node(machine, tmp_path)
    found = start_client(client, ["10.*"])
    # Which of its addresses answers first is up to chance.
    wait_until_explained(found, *(f"node {machine.name} " for machine in machines), "for 'compute': 3")


def test_node_with_another_key_is_told_of(lab: Lab, tmp_path: Path) -> None:
    client, node = one_network(lab, "client", "node")
    other = tmp_path / "key"
    other.write_text("another passphrase than theirs\n")
    other.chmod(0o600)
    start_node(node, tmp_path, "--secret-file", str(other))
    cluster = start_client(client, ["10.*"])
    wait_until_explained(cluster, "10.81.1.2", "a node there has another key")


def test_restriction_to_loopback_holds(lab: Lab, tmp_path: Path) -> None:
    client, node = one_network(lab, "client", "node")
    start_node(node, tmp_path)
    cluster = client.python(str(CLIENT), json.dumps(["10.*"]), DISPY_INTERFACES="lo")
    cluster.wait_for("looking")
    time.sleep(QUIET_S)
    cluster.tell("explain")
    cluster.wait_for("looked for on: lo (127.0.0.1)\n")
    assert "usable at" not in cluster.text
