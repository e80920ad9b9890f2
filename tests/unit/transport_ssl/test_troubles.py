from __future__ import annotations

import ssl
from dataclasses import replace

import pytest
import trio

from dispy.errors import SecurityError, TransportError, UnknownKey
from dispy.interfaces import Credential
from dispy.wire.frames import PREFACE
from dispy_transport_ssl import troubles
from dispy_transport_ssl.troubles import Situation, explain_break, explain_failure

TLS_BEGINNING = b"\x16\x03\x03\x00\x7a\x02\x00\x00"


def credential(name: str, hint_key: bytes = b"") -> Credential:
    return Credential(name, b"", b"", b"", hint_key=hint_key)


def situation(*credentials: Credential, server_side: bool = False, first: bytes = TLS_BEGINNING) -> Situation:
    return Situation(credentials or (credential("certificate mine"),), server_side, first)


def broken(cause: BaseException | None = None, text: str = "") -> trio.BrokenResourceError:
    error = trio.BrokenResourceError(text) if text else trio.BrokenResourceError()
    error.__cause__ = cause
    return error


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] something (_ssl.c:1)")
    error.reason = reason
    return error


def verify_error(code: int, message: str = "some message") -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.reason, error.verify_code, error.verify_message = "CERTIFICATE_VERIFY_FAILED", code, message
    return error


@pytest.mark.parametrize("reason", sorted({*troubles.ALERT_TROUBLES, *troubles.OWN_TROUBLES}))
def test_each_reason_has_its_text_and_names_what_we_have(reason: str) -> None:
    told = explain_failure(broken(tls_error(reason)), situation())
    expected = troubles.ALERT_TROUBLES.get(reason) or troubles.OWN_TROUBLES[reason]
    assert str(told).startswith(expected)
    assert "certificate mine" in str(told)


@pytest.mark.parametrize("code", sorted(troubles.VERIFY_TROUBLES))
def test_each_fault_of_a_certificate_has_its_text(code: int) -> None:
    told = explain_failure(broken(verify_error(code)), situation())
    assert str(told).startswith(troubles.VERIFY_TROUBLES[code])


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (verify_error(20), UnknownKey),
        (tls_error("TLSV1_ALERT_UNKNOWN_CA"), UnknownKey),
        (tls_error("TLSV1_UNRECOGNIZED_NAME"), UnknownKey),
        (tls_error("CALLBACK_FAILED"), UnknownKey),
        (verify_error(10), SecurityError),
        (tls_error("SSLV3_ALERT_CERTIFICATE_EXPIRED"), SecurityError),
        (None, SecurityError),
    ],
)
def test_another_credential_is_worth_a_try_only_if_this_one_is_unknown(cause, kind: type[Exception]) -> None:
    assert type(explain_failure(broken(cause), situation())) is kind


def test_what_has_no_text_is_told_in_the_words_of_openssl() -> None:
    assert "some message" in str(explain_failure(broken(verify_error(999)), situation()))
    assert "wonderful failure" in str(explain_failure(broken(tls_error("WONDERFUL_FAILURE")), situation()))
    unnamed = ssl.SSLError(1, "strange thing")
    assert "strange thing" in str(explain_failure(broken(unnamed), situation()))


def test_all_keys_of_the_listening_side_are_named() -> None:
    ours = (credential("key old", b"1"), credential("key new", b"2"))
    told = explain_failure(broken(tls_error("CALLBACK_FAILED")), situation(*ours, server_side=True))
    assert "has none of ours, key old, key new;" in str(told)


@pytest.mark.parametrize("server_side", [True, False])
def test_source_of_the_key_and_its_remedy_are_told(server_side: bool) -> None:
    ours = replace(credential("key mine", b"1"), source="DISPY_SECRET", remedy="unset it")
    told = explain_failure(
        broken(tls_error("CALLBACK_FAILED")), situation(ours, ours, server_side=server_side)
    )
    assert str(told).endswith("ours, key mine, key mine (from DISPY_SECRET); unset it")


@pytest.mark.parametrize("size", [1, 5, 8])
def test_first_bytes_of_a_plain_dispy(size: int) -> None:
    first = PREFACE[:size]
    assert str(explain_failure(broken(), situation(first=first))) == troubles.OPEN_LISTENER
    assert str(explain_failure(broken(), situation(first=first, server_side=True))) == troubles.OPEN_DIALLER


def test_first_bytes_of_something_else() -> None:
    told = str(explain_failure(broken(tls_error("WRONG_VERSION_NUMBER")), situation(first=b"\x1b[31m\n")))
    assert r"b'\x1b[31m\n'" in told


@pytest.mark.parametrize("first", [b"", TLS_BEGINNING])
def test_end_of_the_connection(first: bytes) -> None:
    eof = ssl.SSLEOFError(8, "EOF occurred in violation of protocol")
    assert str(explain_failure(broken(eof), situation(first=first))) == troubles.CLOSED
    told = str(explain_failure(broken(OSError(104, "reset"), "connection reset"), situation(first=first)))
    assert told == f"{troubles.CLOSED} (connection reset)"


def test_break_after_the_handshake() -> None:
    eof = ssl.SSLEOFError(8, "EOF occurred in violation of protocol")
    for cause, text in (
        (eof, "without a farewell"),
        (tls_error("BAD_RECORD"), "changed on the way (BAD_RECORD)"),
    ):
        told = explain_break(cause)
        assert isinstance(told, TransportError)
        assert told.__cause__ is cause
        assert text in str(told)
