from __future__ import annotations

import dataclasses
import os
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dispy.errors import CredentialsError
from dispy.model import AccessRole
from dispy_transport_ssl import contexts
from dispy_transport_ssl.contexts import make_client_context, make_gate


def files_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, os.stat_result, bytes]]:
    """Keep what `ssl` is given to read keys from."""
    seen: list[tuple[str, os.stat_result, bytes]] = []

    load = ssl.SSLContext.load_cert_chain

    def look(context: ssl.SSLContext, certfile: str, *args: Any, **options: Any) -> None:
        seen.append((certfile, os.stat(certfile), Path(certfile).read_bytes()))
        load(context, certfile, *args, **options)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", look)
    return seen


def test_nothing_weaker_is_negotiated(world) -> None:
    credential = world.credential("alpha", AccessRole.NODE)
    gate = make_gate([credential])
    for context in (make_client_context(credential), gate.context, *gate.choices):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.options & ssl.OP_NO_TICKET
    assert all(context.num_tickets == 0 for context in (gate.context, *gate.choices))


def test_only_own_authorities_are_trusted(world) -> None:
    context = make_client_context(world.credential("alpha", AccessRole.NODE))
    assert len(context.get_ca_certs()) == 1
    assert not make_gate([world.credential("alpha", AccessRole.NODE)]).context.get_ca_certs()


def test_gate_knows_the_credential_of_each_context(world) -> None:
    first, second = (world.credential(name, AccessRole.NODE) for name in "ab")
    assert list(make_gate([first, second]).choices.values()) == [first, second]


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no files in memory")
def test_key_stays_in_memory(world, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = files_of(monkeypatch)
    monkeypatch.setattr(contexts.tempfile, "TemporaryDirectory", None)
    credential = world.credential("alpha", AccessRole.NODE)
    make_client_context(credential)
    ((path, _found, content),) = seen
    assert credential.key in content
    assert path.startswith("/proc/self/fd/")
    # Not compared as a whole: what earlier tests have left may be closed at any moment.
    assert not os.path.exists(path)


def test_key_in_a_file_for_a_moment(world, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = files_of(monkeypatch)
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(contexts.tempfile, "tempdir", str(tmp_path))
    make_client_context(world.credential("alpha", AccessRole.NODE))
    ((path, found, _content),) = seen
    assert Path(path).is_relative_to(tmp_path)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make", [make_client_context, lambda credential: make_gate([credential])])
@pytest.mark.parametrize(
    "change",
    [
        {"chain": b""},
        {"key": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"},
        {"authorities": b""},
        {"authorities": "ä".encode()},
    ],
)
def test_credential_that_cannot_be_used(world, make: Callable[..., object], change: dict[str, bytes]) -> None:
    credential = dataclasses.replace(world.credential("alpha", AccessRole.NODE), **change)
    with pytest.raises(CredentialsError, match="certificate alpha cannot be used"):
        make(credential)


def test_key_of_another_certificate(world) -> None:
    first, second = (world.credential(name, AccessRole.NODE) for name in "ab")
    with pytest.raises(CredentialsError, match="key values mismatch"):
        make_client_context(dataclasses.replace(first, key=second.key))


def test_a_connection_that_is_cut_never_looks_ended() -> None:
    """Some releases of Python set this option by themselves."""
    for protocol in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER):
        assert not contexts._bare_context(protocol).options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0x80)
