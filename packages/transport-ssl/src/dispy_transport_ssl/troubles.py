"""What the errors of TLS mean to people, and what to do about them.

Each text is followed by what this side has, so that it can be compared with the other machine.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dispy.errors import SecurityError, TransportError, UnknownKey
from dispy.interfaces import Credential
from dispy.wire.frames import PREFACE

CLOCKS = "do the clocks of the two machines agree?"
RENEW_THERE = f"renew it there with `dispy cert renew`; if it is new: {CLOCKS}"
RENEW_HERE = f"renew it with `dispy cert renew`; if it is new: {CLOCKS}"

UNKNOWN_TO_US = "the other side has no certificate of an authority that is trusted here"
UNKNOWN_TO_PEER = "the other side does not trust the authority of our certificate"

VERIFY_TROUBLES: Mapping[int, str] = {
    7: UNKNOWN_TO_US,  # signed by another authority of the same name
    9: f"the certificate of the other side is not valid yet: {CLOCKS}",
    10: f"the certificate of the other side has expired: {RENEW_THERE}",
    26: "the certificate of the other side is not for this purpose: issue one with `dispy cert issue`",
    66: "the key of the other side's certificate is too weak: issue another one with `dispy cert issue`",
    68: "the signature of the other side's certificate is too weak: issue another one with `dispy cert issue`",
    **dict.fromkeys((2, 18, 19, 20, 21), UNKNOWN_TO_US),
}
"""Number of a verification error (X509_V_ERR_*) -> what we say."""

ALERT_TROUBLES: Mapping[str, str] = {
    "TLSV1_ALERT_UNKNOWN_CA": UNKNOWN_TO_PEER,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": f"the other side says that our certificate has expired: {RENEW_HERE}",
    "SSLV3_ALERT_BAD_CERTIFICATE": (
        f"the other side says that our certificate is not valid yet, or damaged: {CLOCKS}"
    ),
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": (
        "the other side says that our certificate is not for this purpose: issue one with `dispy cert issue`"
    ),
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the other side says that our certificate was revoked: issue another one",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the other side does not accept our certificate: its log may say why",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the other side wants a certificate, and we showed none: pass certfile",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the other side does not speak TLS 1.3: is it a dispy, and of this version?",
    "TLSV1_ALERT_DECRYPT_ERROR": "the other side says that what we sent was changed on the way",
    "SSLV3_ALERT_BAD_RECORD_MAC": "the other side says that what we sent was changed on the way",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the other side cannot agree with us on TLS: is it a dispy?",
    "TLSV1_ALERT_INTERNAL_ERROR": "the other side failed in the handshake: its log may say why",
}
"""Reason of an error that the other side has sent -> what we say."""

OWN_TROUBLES: Mapping[str, str] = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the other side showed no certificate: is it a dispy?",
    "UNSUPPORTED_PROTOCOL": "the other side does not speak TLS 1.3: is it a dispy, and of this version?",
    "TLSV1_ALERT_USER_CANCELLED": "the other side gave up",
    "DIGEST_CHECK_FAILED": "what came from the other side was changed on the way",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "what came from the other side was changed on the way",
    "BAD_SIGNATURE": "what came from the other side was changed on the way",
}
"""Reason of an error that we found -> what we say."""

UNKNOWN_HINT_REASONS = {"TLSV1_UNRECOGNIZED_NAME", "CALLBACK_FAILED"}
"""Sent to us, and found by us: a hint that no credential of the listening side has."""

OPEN_LISTENER = (
    "the other side is open (plain), and does not encrypt: "
    "start it without --open, or pass secret=dispy.OPEN here to do without too"
)
OPEN_DIALLER = (
    "the other side is open (plain), and does not encrypt: "
    "have it use a key rather than secret=dispy.OPEN, or start this side with --open to do without too"
)
CLOSED = "the other side closed the connection during the handshake: its log may say why"

TLS_RECORDS = frozenset({0x14, 0x15, 0x16, 0x17})
"""First byte of what a side says that speaks TLS."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known when a handshake fails.

    Attributes:
        credentials: ours.
        server_side: we are the side that listens.
        first: first bytes of what the other side has sent.
    """

    credentials: Sequence[Credential]
    server_side: bool
    first: bytes


def explain_failure(error: BaseException, situation: Situation) -> SecurityError:
    """Tell why a handshake failed, from what trio has raised."""
    first, cause = situation.first, error.__cause__
    if first and first.startswith(PREFACE[: len(first)]):
        return SecurityError(OPEN_DIALLER if situation.server_side else OPEN_LISTENER)
    if first and first[0] not in TLS_RECORDS:
        return SecurityError(
            f"the other side is no dispy: it begins with {first!r}; check its address and port"
        )
    if isinstance(cause, ssl.SSLEOFError) or not isinstance(cause, ssl.SSLError):
        detail = str(error)
        return SecurityError(f"{CLOSED} ({detail})" if detail else CLOSED)
    if _reason_of(cause) in UNKNOWN_HINT_REASONS:
        return _unknown_key(situation)
    text = _text_of(cause)
    if text in (UNKNOWN_TO_US, UNKNOWN_TO_PEER):
        return _unknown_authority(text, situation)
    return SecurityError(f"{text} (this side has {_names(situation)})")


def _text_of(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        told = f"the certificate of the other side is not accepted: {error.verify_message}"
        return VERIFY_TROUBLES.get(error.verify_code, told)
    reason = _reason_of(error)
    told = f"the handshake failed ({reason.lower().replace('_', ' ') or error}): is it a dispy there?"
    return ALERT_TROUBLES.get(reason) or OWN_TROUBLES.get(reason) or told


def _reason_of(error: ssl.SSLError) -> str:
    """Return OpenSSL's name for an error; empty if this Python knows none."""
    return getattr(error, "reason", None) or ""


def _unknown_key(situation: Situation) -> UnknownKey:
    if not any(credential.hint_key for credential in situation.credentials):
        return _unknown_authority("the other side uses a shared key, or other certificates", situation)
    who = "has none of ours" if situation.server_side else "does not have ours"
    sources = dict.fromkeys(one.source for one in situation.credentials if one.source)
    origin = f" (from {', '.join(sources)})" if sources else ""
    remedies = dict.fromkeys(one.remedy for one in situation.credentials if one.remedy)
    remedy = "; or ".join(remedies) or "give both sides the same"
    return UnknownKey(
        f"the two sides have no key in common: the other side {who}, {_names(situation)}{origin}; {remedy}"
    )


def _unknown_authority(text: str, situation: Situation) -> UnknownKey:
    return UnknownKey(
        f"{text}; this side has {_names(situation)}: "
        "both need certificates of one authority, and its certificate as cafile; compare `dispy cert list`"
    )


def _names(situation: Situation) -> str:
    return ", ".join(credential.name for credential in situation.credentials)


def explain_break(error: ssl.SSLError) -> TransportError:
    """Tell why a connection broke after the handshake."""
    if isinstance(error, ssl.SSLEOFError):
        text = "the connection ended without a farewell: the peer has died, or somebody has cut it"
    else:
        text = f"what arrived was not from the peer, or was changed on the way ({_reason_of(error) or error})"
    explained = TransportError(text)
    explained.__cause__ = error
    return explained
