"""Authorities and certificates: the same everywhere, and accepted by TLS."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from dispy.interfaces import Credential
from dispy.model import AccessRole
from dispy_auth_secret.derivation import (
    authority_certificate,
    authority_key,
    discovery_key,
    hint_key,
    issue_credential,
)
from dispy_auth_secret.keys import Key

KEY = Key(bytes(range(32)))
OTHER = Key(bytes(32))
NOW = 1_800_000_000.0
DAY_S = 24 * 3600

AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBPTCB8KADAgECAgEBMAUGAytlcDAkMSIwIAYDVQQDDBlkaXNweSA5ZmRiLTgx
NDYtNmYxMy00YWM2MCAXDTcwMDEwMjAwMDAwMFoYDzk5OTkxMjMxMjM1OTU5WjAk
MSIwIAYDVQQDDBlkaXNweSA5ZmRiLTgxNDYtNmYxMy00YWM2MCowBQYDK2VwAyEA
5573ZV7JepIkMthNupN5MxhInAywA5GdnwOzmFYtJiCjRTBDMBIGA1UdEwEB/wQI
MAYBAf8CAQAwDgYDVR0PAQH/BAQDAgIEMB0GA1UdDgQWBBTacN29Suj1uHSEAwqK
ctLSFOyj+zAFBgMrZXADQQBfVAGR/4wMfL11javUyIIp6wjwtvUAZkOK3SxuYvWV
MDCpuj4yfHv++4kjvBt1kI0wh/j/f2fFxfZcPBILDo8O
-----END CERTIFICATE-----
"""


def test_authority_is_the_same_bytes_everywhere() -> None:
    assert authority_certificate(KEY).public_bytes(Encoding.PEM).decode() == AUTHORITY


def test_authority_says_what_it_may_do() -> None:
    found = authority_certificate(KEY)
    assert found.subject.rfc4514_string() == f"CN=dispy {KEY.fingerprint}"
    basic = found.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    usage = found.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature, usage.crl_sign) == (True, False, False)


def test_derived_keys_never_change_and_differ() -> None:
    assert hint_key(KEY).hex() == "0e0afc7029fac16410cc7124dd95a0816a7dfb9781197603d09f41b559ef094b"
    assert discovery_key(KEY).hex() == "019843cab79e66454f087a53b0a9831beb321ba0d700e493c9794deac69ffc67"
    derived = {
        derive(key)
        for key in (KEY, OTHER)
        for derive in (hint_key, discovery_key, lambda key: authority_key(key).private_bytes_raw())
    }
    assert len(derived) == 6


def leaf_of(credential: Credential) -> x509.Certificate:
    return x509.load_pem_x509_certificate(credential.chain)


@pytest.mark.parametrize("role", list(AccessRole))
def test_certificate_says_the_role(role: AccessRole) -> None:
    leaf = leaf_of(issue_credential(KEY, role, "node7.example", NOW))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(f"urn:dispy:role:{role.value}")]
    assert leaf.subject.rfc4514_string() == "CN=node7.example"
    leaf.verify_directly_issued_by(authority_certificate(KEY))


def test_certificate_is_valid_for_a_week_and_renewed_in_the_middle() -> None:
    credential = issue_credential(KEY, AccessRole.NODE, "host", NOW)
    leaf = leaf_of(credential)
    assert leaf.not_valid_before_utc == datetime.fromtimestamp(NOW - DAY_S, UTC)
    assert leaf.not_valid_after_utc == datetime.fromtimestamp(NOW + 7 * DAY_S, UTC)
    assert credential.renew_at == NOW + 3.5 * DAY_S


def test_each_credential_has_a_private_key_of_its_own() -> None:
    first, second = (issue_credential(KEY, AccessRole.NODE, "host", NOW) for _ in range(2))
    assert first.key != second.key
    assert leaf_of(first).serial_number != leaf_of(second).serial_number
    assert first.authorities == second.authorities == AUTHORITY.encode()
    assert first.name == f"key {KEY.fingerprint}"
    assert (first.hint_key, first.default_roles) == (hint_key(KEY), frozenset())


@pytest.mark.parametrize(
    ("host", "told"),
    [("", "unnamed"), ("a b\n\u00e9,CN=x", "a-b---CN-x"), ("n" * 65, "n" * 64)],
)
def test_any_name_of_a_host_will_do(host: str, told: str) -> None:
    leaf = leaf_of(issue_credential(KEY, AccessRole.NODE, host, NOW))
    assert [name.value for name in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [told]


def test_credential_shows_no_key() -> None:
    credential = issue_credential(KEY, AccessRole.NODE, "host", NOW)
    assert "PRIVATE" not in repr(credential)
    assert repr(credential.hint_key) not in repr(credential)


def tls_context(credential: Credential, purpose: int, folder: Path) -> ssl.SSLContext:
    """Make a context as strict as can be, which asks the other side for a certificate too."""
    path = folder / "credential.pem"
    path.write_bytes(credential.chain + credential.key)
    context = ssl.SSLContext(purpose)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=credential.authorities.decode())
    context.load_cert_chain(path)
    return context


def shake_hands(one: Credential, other: Credential, folder: Path) -> ssl.SSLObject:
    """Do the handshake of TLS in memory; return the client's side."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = tls_context(one, ssl.PROTOCOL_TLS_CLIENT, folder).wrap_bio(back, there)
    server = tls_context(other, ssl.PROTOCOL_TLS_SERVER, folder).wrap_bio(there, back, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            return client
    raise AssertionError("the handshake does not end")


def issue_now(key: Key, role: AccessRole) -> Credential:
    return issue_credential(key, role, "host", datetime.now(UTC).timestamp())


def test_tls_accepts_those_with_the_same_key(tmp_path: Path) -> None:
    client = shake_hands(issue_now(KEY, AccessRole.ADMIN), issue_now(KEY, AccessRole.NODE), tmp_path)
    assert client.version() == "TLSv1.3"
    assert client.getpeercert()["subjectAltName"] == (("URI", "urn:dispy:role:node"),)


def test_tls_refuses_those_with_another_key(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(issue_now(KEY, AccessRole.ADMIN), issue_now(OTHER, AccessRole.NODE), tmp_path)


def test_tls_refuses_certificates_of_last_month(tmp_path: Path) -> None:
    old = issue_credential(KEY, AccessRole.NODE, "host", datetime.now(UTC).timestamp() - 30 * DAY_S)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(issue_now(KEY, AccessRole.ADMIN), old, tmp_path)


def test_who_has_a_certificate_cannot_issue_others(tmp_path: Path) -> None:
    holder = issue_now(KEY, AccessRole.OBSERVE)
    leaf = leaf_of(holder)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
