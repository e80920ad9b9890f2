from __future__ import annotations

import importlib
from typing import Any

import pytest

from dispy import config
from dispy.cluster import JobCluster
from dispy.errors import UsageError
from dispy.model import ClusterOrder


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "DispyPort", 51347)


def assign(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    monkeypatch.setitem(vars(config), name, value)


def test_ports_follow_dispy_port_until_they_are_assigned(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.NodePort == 51348
    config.set_port(9700)
    assert (config.DispyPort, config.NodePort) == (9700, 9701)
    assign(monkeypatch, "NodePort", 4000)
    assert (config.NodePort, config.node_port()) == (4000, 4000)


def test_other_defaults() -> None:
    assert config.MsgTimeout == config.msg_timeout_s() == 10
    assert importlib.import_module("dispy.config") is config


@pytest.mark.parametrize("value", ["9700", None, 0, 65536, -1, 9.5, True], ids=repr)
def test_a_port_must_be_a_port(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="dispy_port must be a number from 1 to 65534, not"):
        config.set_port(value)
    assign(monkeypatch, "NodePort", value)
    with pytest.raises(UsageError, match=r"dispy\.config\.NodePort must be a number"):
        config.node_port()


def test_the_highest_port_would_leave_no_room_for_nodes_and_changes_nothing() -> None:
    before = config.DispyPort
    with pytest.raises(UsageError, match="from 1 to 65534"):
        config.set_port(65535)
    assert config.DispyPort == before


@pytest.mark.parametrize("value", ["10", None, 0, -1, 601, float("nan"), float("inf"), True], ids=repr)
def test_a_time_must_be_a_time(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "MsgTimeout", value)
    with pytest.raises(
        UsageError, match=r"dispy\.config\.MsgTimeout must be a number of seconds above 0, at most 600"
    ):
        config.msg_timeout_s()
    with pytest.raises(UsageError, match="MsgTimeout"):
        JobCluster(lambda: None)


@pytest.mark.parametrize("value", [0.5, 3, 600])
def test_times_are_seconds(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "MsgTimeout", value)
    assert config.msg_timeout_s() == value


def test_who_assigns_to_what_has_no_effect_is_warned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(config, "DispyPort", 9700)
    monkeypatch.setattr(config, "NodePort", 4000)
    monkeypatch.setattr(config, "MsgTimeout", 3)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(config, "ClientPort", 4001, raising=False)
    assert capsys.readouterr().out == ""
    config.HTTPServerPort = 4001  # type: ignore[attr-defined]
    del config.HTTPServerPort
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("dispy.config.HTTPServerPort has no effect: nothing of this version uses it")


def test_client_port_follows_dispy_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "DispyPort", 9700)
    assert (config.client_port(), config.node_port()) == (9700, 9701)


def test_groups_are_those_of_the_original() -> None:
    assert config.multicast_groups() == ("239.255.61.59", "ff05::b409:3171:9705:5134:6159")


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("IPv4MulticastGroup", "10.0.0.1", "IPv4"),
        ("IPv4MulticastGroup", "ff05::1", "IPv4"),
        ("IPv6MulticastGroup", "here", "IPv6"),
        ("IPv6MulticastGroup", None, "IPv6"),
    ],
)
def test_groups_must_be_addresses_of_multicast(
    name: str, value: object, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, name, value)
    with pytest.raises(UsageError, match=f"dispy.config.{name} must be an {kind} address of multicast"):
        config.multicast_groups()


def test_unknown_names_are_errors() -> None:
    with pytest.raises(AttributeError, match="'NoSuchPort'"):
        _ = config.NoSuchPort


def test_memory_for_results_is_what_there_is_unless_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.ResultMemory == 0
    assert config.result_memory_bytes() > 64 * 1024**2
    monkeypatch.setattr(config, "ResultMemory", 12345)
    assert config.result_memory_bytes() == 12345
    monkeypatch.setattr(config, "ResultMemory", 0)

    def fails(name: str) -> int:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr("os.sysconf", fails)
    assert config.result_memory_bytes() == config.UNKNOWN_MEMORY


@pytest.mark.parametrize("value", ["10", None, -1, 0.5, True], ids=repr)
def test_memory_is_a_number_of_bytes(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "ResultMemory", value)
    with pytest.raises(UsageError, match=r"dispy\.config\.ResultMemory must be a number of bytes, or 0, not"):
        config.result_memory_bytes()
    with pytest.raises(UsageError, match="ResultMemory"):
        JobCluster(lambda: None)


def test_largest_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.max_file_bytes() == 0
    monkeypatch.setattr(config, "MaxFileSize", "2k")
    assert config.max_file_bytes() == 2048
    assert config.max_file_bytes(5) == 5
    assert config.max_file_bytes(0) == 0
    with pytest.raises(UsageError, match="max_file_size must be a number of bytes"):
        config.max_file_bytes("much")
    monkeypatch.setattr(config, "MaxFileSize", -1)
    with pytest.raises(UsageError, match="dispy.config.MaxFileSize must be"):
        config.max_file_bytes()


def test_order_of_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.cluster_order() is ClusterOrder.FIRST
    monkeypatch.setattr(config, "ClusterOrder", "fair")
    assert config.cluster_order() is ClusterOrder.FAIR
    monkeypatch.setattr(config, "ClusterOrder", "last")
    with pytest.raises(UsageError, match="must be one of 'first', 'fair', 'early', not 'last'"):
        JobCluster(lambda: None)
