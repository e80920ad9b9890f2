"""X.509 certificates: made for a private authority, and read.

Those made here have Ed25519 keys. A certificate tells what its owner may do by URIs among its alternative names:
``urn:dispy:role:submit``.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import (
    PrivateKeyTypes,
    PublicKeyTypes,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dispy.errors import CredentialsError, SecurityError
from dispy.model import ROLE_URI_PREFIX, AccessRole
from dispy.printable import printable
from dispy.private import MAX_BYTES

BACKDATE = datetime.timedelta(hours=1)
"""Certificates are valid from so long before they are made: clocks of machines differ."""

YEAR = datetime.timedelta(days=365.25)

NAME_BYTES = 64
"""Longest common name (RFC 5280, appendix A.1)."""

SHOWN_CHARACTERS = 40
"""How much of a name in a certificate is shown; our own are shorter."""

_KEY_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: PrivateKeyTypes

    def to_pem(self) -> bytes:
        """Return both, the certificate first."""
        return write_certificates([self.certificate]) + write_key(self.key)


def make_key() -> Ed25519PrivateKey:
    """Return a new random key."""
    return Ed25519PrivateKey.generate()


def make_authority(
    name: str, key: Ed25519PrivateKey | None = None, *, years: float, now: datetime.datetime
) -> KeyPair:
    """Make an authority, which issues certificates for others and none for further authorities.

    Args:
        name: for people, at most NAME_BYTES.
        key: its key; None for a new one.
        now: the time, aware of its zone.
    """
    key = key or make_key()
    subject = _subject(name)
    builder = _builder(subject, key, now, now + years * YEAR).issuer_name(subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(issues=True), critical=True)
    return KeyPair(builder.sign(key, None), key)


def issue(
    authority: KeyPair, name: str, *, roles: Iterable[AccessRole], days: float, now: datetime.datetime
) -> KeyPair:
    """Make a certificate for somebody, with a key of its own. It never outlives that of the authority.

    Args:
        name: for people, at most NAME_BYTES.
        roles: what the owner may do; at least one.
        now: the time, aware of its zone.

    Raises:
        CredentialsError: the authority's key is of a kind that is not supported.
    """
    key = make_key()
    until = min(now + datetime.timedelta(days=days), authority.certificate.not_valid_after_utc)
    uris = [x509.UniformResourceIdentifier(ROLE_URI_PREFIX + role) for role in sorted(set(roles))]
    issuer = authority.certificate
    signer = authority.key
    if not isinstance(signer, Ed25519PrivateKey | RSAPrivateKey | EllipticCurvePrivateKey):
        raise CredentialsError(
            "the authority's key is of no kind that can issue: make one with `dispy cert init`"
        )
    builder = _builder(_subject(name), key, now, until).issuer_name(issuer.subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(issues=False), critical=True)
    builder = builder.add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
        critical=False,
    )
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
    )
    builder = builder.add_extension(x509.SubjectAlternativeName(uris), critical=False)
    algorithm = None if isinstance(signer, Ed25519PrivateKey) else hashes.SHA256()
    return KeyPair(builder.sign(signer, algorithm), key)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, key: Ed25519PrivateKey, now: datetime.datetime, until: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, issues: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not issues,
        key_cert_sign=issues,
        crl_sign=issues,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def write_certificates(certificates: Iterable[x509.Certificate]) -> bytes:
    """Return certificates as PEM."""
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def write_key(key: PrivateKeyTypes) -> bytes:
    """Return a private key as PEM (PKCS #8, not encrypted)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_file(name: str) -> bytes:
    """Return what is in a file that need not be secret.

    Raises:
        CredentialsError: it cannot be read, or is too large for certificates.
    """
    try:
        with Path(name).expanduser().open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CredentialsError(
            f"cannot read the file {name!r}: {error.strerror}; name another one"
        ) from error
    if len(content) > MAX_BYTES:
        raise CredentialsError(
            f"{name!r} is larger than {MAX_BYTES} bytes, so it is no certificate; name another one"
        )
    return content


def read_certificates(data: bytes, origin: str) -> Sequence[x509.Certificate]:
    """Return all certificates in PEM data, which may hold other things too; at least one.

    Args:
        origin: where *data* is from, for messages.

    Raises:
        CredentialsError: there is none, or one is damaged.
    """
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise CredentialsError(f"{origin!r} holds no certificate; it has to be PEM, with BEGIN CERTIFICATE")
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise CredentialsError(
            f"a certificate in {origin!r} is damaged ({error}); copy the file again"
        ) from error


def has_key(data: bytes) -> bool:
    """Tell whether there is a private key in PEM data."""
    return _KEY_BLOCK.search(data) is not None


def read_key(data: bytes, origin: str) -> PrivateKeyTypes:
    """Return the first private key in PEM data, which may hold other things too.

    Raises:
        CredentialsError: there is none, or it is encrypted or damaged.
    """
    found = _KEY_BLOCK.search(data)
    if found is None:
        raise CredentialsError(f"{origin!r} holds no private key; it has to be PEM, with BEGIN PRIVATE KEY")
    try:
        return serialization.load_pem_private_key(found[0] + b"\n", None)
    except TypeError as error:  # that is how the library asks for a password
        raise CredentialsError(
            f"the private key in {origin!r} is encrypted, and nobody can be asked for its password; store it "
            f"without one: openssl pkey -in {origin} -out plain-key.pem; chmod 600 plain-key.pem"
        ) from error
    except Exception as error:  # whatever a damaged key makes the library raise
        raise CredentialsError(
            f"the private key in {origin!r} cannot be read ({error}); copy the file again"
        ) from error


def public_bytes(key: PublicKeyTypes) -> bytes:
    """Return a public key in a form that can be compared."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate was issued with its own key."""
    try:
        certificate.verify_directly_issued_by(certificate)
    except (
        Exception
    ):  # other names, another kind of key, another key: the library raises something else for each
        return False
    return True


def roles_in(certificate: x509.Certificate) -> frozenset[AccessRole] | None:
    """Return the roles that a certificate tells; unknown ones are left out. None: it says nothing about roles.

    Raises:
        SecurityError: its extensions are damaged.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        return None
    except Exception as error:  # whatever a damaged certificate makes the library raise
        raise SecurityError(f"{describe(certificate)} is damaged ({error}): issue another one") from error
    told = {uri.removeprefix(ROLE_URI_PREFIX) for uri in uris if uri.startswith(ROLE_URI_PREFIX)}
    return frozenset(role for role in AccessRole if role.value in told) if told else None


def name_of(certificate: x509.Certificate) -> str:
    """Return whom a certificate is for: its common name, else its whole subject; only what can be printed."""
    try:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        text = str(common[0].value) if common else certificate.subject.rfc4514_string()
    except Exception:  # whatever a damaged name makes the library raise
        return "?"
    return printable(text, SHOWN_CHARACTERS) or "?"


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the beginning of a certificate's SHA-256 as people compare it: ``3f2a-91bc-77d0-0c4e``."""
    digest = certificate.fingerprint(hashes.SHA256()).hex()
    return "-".join(digest[start : start + 4] for start in range(0, 16, 4))


def subject_of(certificate: x509.Certificate) -> str:
    """Return what tells apart those to whom authorities have issued certificates; a renewed one has the same.

    It is a hash of the authority, its key if the certificate tells that, and the whole subject.

    Raises:
        SecurityError: the certificate is damaged.
    """
    try:
        try:
            issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
            key = issuer.key_identifier or b""
        except x509.ExtensionNotFound:
            key = b""
        parts = (certificate.issuer.public_bytes(), key, certificate.subject.public_bytes())
    except Exception as error:  # whatever a damaged certificate makes the library raise
        raise SecurityError(f"{describe(certificate)} is damaged ({error}): issue another one") from error
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).hexdigest()


def fingerprint_of_key(certificate: x509.Certificate) -> str:
    """Return a hash of the public key in a certificate.

    Raises:
        SecurityError: there is none that can be read.
    """
    try:
        return hashlib.sha256(public_bytes(certificate.public_key())).hexdigest()
    except Exception as error:  # whatever a damaged certificate makes the library raise
        raise SecurityError(f"{describe(certificate)} is damaged ({error}): issue another one") from error


def describe(certificate: x509.Certificate) -> str:
    """Return name and fingerprint of a certificate, for messages."""
    return f"certificate {name_of(certificate)!r} ({fingerprint(certificate)})"
