"""The security ``ssl``: TLS 1.3 over the streams of any transport, with both sides authenticated.

In TLS 1.3 the handshake of the side that dials is over before the other side has looked at its certificate. So each
side says, as first bytes in TLS, whether it accepts the other: first the side that listens, then the one that
dialled. Who refuses says why.

    "+"                                  accepted
    "-"  u8 length, length bytes         refused, with the reason in UTF-8
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar

import trio
from cryptography import x509

from dispy.errors import SecurityError
from dispy.interfaces import API_VERSION, Credential, Identity, StreamSecurity
from dispy.model import AccessRole
from dispy.printable import printable
from dispy_transport_ssl.certificates import describe, fingerprint_of_key, roles_in, subject_of
from dispy_transport_ssl.contexts import make_client_context, make_gate
from dispy_transport_ssl.hints import NONCE_BYTES, make_hint
from dispy_transport_ssl.streams import TlsStream
from dispy_transport_ssl.troubles import CLOSED, Situation, explain_failure

ACCEPTED = b"+"
REFUSED = b"-"

REASON_BYTES = 200
"""Longest reason that is told."""

CONTEXTS_MAX = 8
"""Contexts that are kept; they are made anew when a certificate is renewed, and the oldest are forgotten."""


class SslSecurity(StreamSecurity):
    """Secures streams by TLS 1.3; a peer is who its certificate says, if one of our authorities has issued it."""

    NAME: ClassVar[str] = "ssl"
    API_VERSION: ClassVar[int] = API_VERSION

    def __init__(self) -> None:
        self._client_context = lru_cache(maxsize=CONTEXTS_MAX)(make_client_context)
        self._gate = lru_cache(maxsize=CONTEXTS_MAX)(make_gate)

    async def connect(
        self, stream: trio.abc.Stream, credential: Credential, *, wants: frozenset[AccessRole]
    ) -> tuple[trio.abc.Stream, Identity]:
        """Secure the stream from the side that dialled. It returns when the other side has accepted us too.

        Raises:
            UnknownKey: the other side has another key, or certificates of another authority.
            SecurityError: the other side is not accepted, or does not accept us; the message says why.
            CredentialsError: OpenSSL does not take our credential.
        """
        name = make_hint(credential.hint_key, os.urandom(NONCE_BYTES)) if credential.hint_key else None
        tls = TlsStream(stream, self._client_context(credential), server_side=False, server_name=name)
        try:
            await tls.handshake()
            await _hear_verdict(tls)
            identity = await _judge(tls, credential, wants)
        except trio.BrokenResourceError as error:
            raise await _failure(tls, [credential], error, server_side=False) from error
        tls.open()
        return tls, identity

    async def accept(
        self,
        stream: trio.abc.Stream,
        credentials: Sequence[Credential],
        *,
        wants: frozenset[AccessRole],
    ) -> tuple[trio.abc.Stream, Identity]:
        """Secure the stream from the side that listens; raises as `connect` does."""
        gate = self._gate(tuple(credentials))
        tls = TlsStream(stream, gate.context, server_side=True, server_name=None)
        try:
            await tls.handshake()
            identity = await _judge(tls, gate.choices[tls.context], wants)
            await _hear_verdict(tls)
        except trio.BrokenResourceError as error:
            raise await _failure(tls, credentials, error, server_side=True) from error
        tls.open()
        return tls, identity


async def _failure(
    tls: TlsStream, credentials: Sequence[Credential], error: trio.BrokenResourceError, *, server_side: bool
) -> SecurityError:
    await tls.send_alert()
    return explain_failure(error, Situation(credentials, server_side, tls.carrier.first))


async def _judge(tls: TlsStream, credential: Credential, wants: frozenset[AccessRole]) -> Identity:
    """Look at the other side's certificate, which TLS has verified, and tell the other side the verdict."""
    try:
        identity = identify(tls.peer_certificate, credential, wants)
    except SecurityError as error:
        reason = str(error).encode()[:REASON_BYTES]
        await tls.send_all(REFUSED + bytes([len(reason)]) + reason)
        raise SecurityError(f"the other side's {error}") from error
    await tls.send_all(ACCEPTED)
    return identity


async def _hear_verdict(tls: TlsStream) -> None:
    verdict = await tls.read_exactly(1)
    if verdict == ACCEPTED:
        return
    if verdict != REFUSED:
        raise SecurityError(
            CLOSED if not verdict else "the other side is no dispy: check its address and port"
        )
    size = await tls.read_exactly(1)
    reason = (await tls.read_exactly(size[0]) if size else b"").decode(errors="replace")
    raise SecurityError(f"the other side does not accept us: {printable(reason)}")


def identify(certificate: bytes, credential: Credential, wants: frozenset[AccessRole]) -> Identity:
    """Tell who has a certificate (DER) that is known to be good, by this credential of ours.

    Raises:
        SecurityError: it cannot be read, it tells no role and the credential has no default, or none of its roles
            is in *wants*.
    """
    try:
        loaded = x509.load_der_x509_certificate(certificate)
    except Exception as error:  # whatever a damaged certificate makes the library raise
        raise SecurityError(f"certificate cannot be read ({error}): issue another one") from error
    roles = roles_in(loaded)
    if roles is None:
        roles = credential.default_roles
    if not roles:
        raise SecurityError(f"{describe(loaded)} tells no dispy role: issue one with `dispy cert issue`")
    if roles.isdisjoint(wants):
        has, needed = ", ".join(sorted(roles)), " or ".join(sorted(wants))
        raise SecurityError(f"{describe(loaded)} is for {has}, and here it has to be for {needed}")
    if credential.hint_key:  # of a shared key: whatever it says, its owner has issued it to itself
        return Identity(describe(loaded), roles, key=fingerprint_of_key(loaded), account=credential.name)
    if credential.default_roles:  # the one pair that all share
        return Identity(describe(loaded), roles, account=credential.name)
    subject = subject_of(loaded)
    return Identity(describe(loaded), roles, subject=subject, account=subject)
