"""From a key to what TLS needs: an authority that is the same wherever the key is, and certificates that it issues.

    key ── HKDF ──┬── Ed25519 key of the authority ── its certificate, the same bytes everywhere
                  ├── hint key
                  └── discovery key

Each process has a random key and a certificate of its own, which is valid for a week and says its role.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dispy.interfaces import Credential
from dispy.model import ROLE_URI_PREFIX, AccessRole
from dispy_auth_secret.keys import Key, subkey

AUTHORITY_FROM = datetime(1970, 1, 2, tzinfo=UTC)
AUTHORITY_UNTIL = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""A key is valid until it is changed, and nobody can know when that will be."""

VALID_BEFORE_S = 24 * 3600
"""Clocks of other machines may be late by this much."""
VALID_AFTER_S = 7 * 24 * 3600
RENEW_AFTER_S = VALID_AFTER_S // 2

MAX_NAME = 64
"""Characters of a common name, by X.509."""


def authority_key(key: Key) -> Ed25519PrivateKey:
    """Return the private key of the authority that stands for *key*."""
    return Ed25519PrivateKey.from_private_bytes(subkey(key.data, "dispy authority"))


def authority_certificate(key: Key) -> x509.Certificate:
    """Return the certificate of the authority: for one key, the same bytes on every machine."""
    private = authority_key(key)
    public = private.public_key()
    name = _name(f"dispy {key.fingerprint}")
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(1)
        .not_valid_before(AUTHORITY_FROM)
        .not_valid_after(AUTHORITY_UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(private, algorithm=None)
    )


def hint_key(key: Key) -> bytes:
    """Return 32 bytes by which one side tells the other which key it is about to use, but nobody else."""
    return subkey(key.data, "dispy hint")


def discovery_key(key: Key) -> bytes:
    """Return 32 bytes under which those who look for each other on a network authenticate what they say."""
    return subkey(key.data, "dispy discovery")


def make_private_key() -> Ed25519PrivateKey:
    """Return a new random key for a process, or for one certificate."""
    return Ed25519PrivateKey.generate()


def issue_credential(
    key: Key, role: AccessRole, host: str, now: float, private: Ed25519PrivateKey | None = None
) -> Credential:
    """Make a credential for this process.

    Args:
        key: what it shares with the others.
        role: what it is to them.
        host: name of this machine, for people who read the certificate.
        now: seconds since the epoch.
        private: the private key of the process; None for a new random one.
    """
    authority, signer = authority_certificate(key), authority_key(key)
    private = private or make_private_key()
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    leaf = (
        x509.CertificateBuilder()
        .subject_name(_name(_clean(host)))
        .issuer_name(authority.subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_moment(now - VALID_BEFORE_S))
        .not_valid_after(_moment(now + VALID_AFTER_S))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(ROLE_URI_PREFIX + role)]),
            critical=False,
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(signer, algorithm=None)
    )
    return Credential(
        name=f"key {key.fingerprint}",
        chain=leaf.public_bytes(Encoding.PEM),
        key=private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        authorities=authority.public_bytes(Encoding.PEM),
        hint_key=hint_key(key),
        discovery_key=discovery_key(key),
        renew_at=now + RENEW_AFTER_S,
        roles=frozenset({role}),
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _clean(host: str) -> str:
    """Return what of a host's name can stand in a certificate."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", host)[:MAX_NAME] or "unnamed"


def _moment(seconds: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(seconds))


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
