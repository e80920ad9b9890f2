from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.x509.oid import NameOID

from dispy.errors import CredentialsError, SecurityError
from dispy.model import AccessRole
from dispy.private import MAX_BYTES
from dispy_transport_ssl import certificates as certs

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def lab() -> certs.KeyPair:
    return certs.make_authority("lab", years=2, now=NOW)


def issue(lab: certs.KeyPair, *roles: AccessRole, name: str = "alpha", days: float = 30) -> certs.KeyPair:
    return certs.issue(lab, name, roles=roles, days=days, now=NOW)


def build(subject: x509.Name, *extensions: x509.ExtensionType) -> x509.Certificate:
    """Make a certificate as others may make it."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    )
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + DAY)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256())


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def uris(*texts: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(text) for text in texts])


class TestMaking:
    def test_authority_may_issue_for_others_only(self, lab: certs.KeyPair) -> None:
        basic = lab.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert basic.critical
        assert (basic.value.ca, basic.value.path_length) == (True, 0)
        usage = lab.certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.critical
        assert usage.value.key_cert_sign
        assert not usage.value.digital_signature
        assert certs.is_self_signed(lab.certificate)

    def test_issued_certificate_is_of_the_authority_and_no_authority(self, lab: certs.KeyPair) -> None:
        made = issue(lab, AccessRole.NODE).certificate
        made.verify_directly_issued_by(lab.certificate)
        assert not certs.is_self_signed(made)
        assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert not made.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign

    def test_validity(self, lab: certs.KeyPair) -> None:
        made = issue(lab, AccessRole.NODE, days=30).certificate
        assert made.not_valid_before_utc == NOW - certs.BACKDATE
        assert made.not_valid_after_utc == NOW + 30 * DAY
        assert lab.certificate.not_valid_after_utc == NOW + 2 * certs.YEAR

    def test_certificate_does_not_outlive_its_authority(self, lab: certs.KeyPair) -> None:
        made = issue(lab, AccessRole.NODE, days=9999).certificate
        assert made.not_valid_after_utc == lab.certificate.not_valid_after_utc

    def test_authority_with_another_kind_of_key(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = name("other")
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
        builder = builder.public_key(key.public_key()).serial_number(1)
        own = builder.not_valid_before(NOW).not_valid_after(NOW + DAY).sign(key, hashes.SHA256())
        issue(certs.KeyPair(own, key), AccessRole.NODE).certificate.verify_directly_issued_by(own)

    def test_authority_with_a_key_that_cannot_sign(self, lab: certs.KeyPair) -> None:
        with pytest.raises(CredentialsError, match="dispy cert init"):
            issue(certs.KeyPair(lab.certificate, x25519.X25519PrivateKey.generate()), AccessRole.NODE)


class TestRoles:
    def test_roles_come_back(self, lab: certs.KeyPair) -> None:
        assert certs.roles_in(issue(lab, *AccessRole).certificate) == set(AccessRole)
        assert certs.roles_in(issue(lab, AccessRole.OBSERVE).certificate) == {AccessRole.OBSERVE}

    def test_certificate_without_roles(self, lab: certs.KeyPair) -> None:
        assert certs.roles_in(lab.certificate) is None
        assert certs.roles_in(build(name("x"), uris("urn:other:role:admin"))) is None
        assert certs.roles_in(build(name("x"), x509.SubjectAlternativeName([x509.DNSName("node")]))) is None

    def test_unknown_roles_are_left_out_but_are_roles(self) -> None:
        made = build(name("x"), uris("urn:dispy:role:submit", "urn:dispy:role:king"))
        assert certs.roles_in(made) == {AccessRole.SUBMIT}
        assert certs.roles_in(build(name("x"), uris("urn:dispy:role:king"))) == frozenset()

    def test_damaged_extension(self) -> None:
        oid = x509.SubjectAlternativeName.oid
        made = build(name("x"), x509.UnrecognizedExtension(oid, b"\xff\x00"))
        with pytest.raises(SecurityError, match="damaged"):
            certs.roles_in(made)


class TestNames:
    def test_common_name_and_fingerprint(self, lab: certs.KeyPair) -> None:
        digest = lab.certificate.fingerprint(hashes.SHA256()).hex()
        told = certs.fingerprint(lab.certificate)
        assert told.replace("-", "") == digest[:16]
        assert len(told) == 19
        assert certs.describe(lab.certificate) == f"certificate 'lab' ({told})"

    def test_what_cannot_be_printed_is_not_shown(self) -> None:
        assert certs.name_of(build(name("a\x1b[31mb\n"))) == "a?[31mb "
        assert len(certs.name_of(build(name("x" * 64)))) == certs.SHOWN_CHARACTERS

    def test_certificate_without_common_name(self) -> None:
        assert "ACME" in certs.name_of(
            build(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "ACME")]))
        )
        assert certs.name_of(build(x509.Name([]))) == "?"


class TestPem:
    def test_pair_comes_back_in_any_order(self, lab: certs.KeyPair) -> None:
        for data in (lab.to_pem(), certs.write_key(lab.key) + certs.write_certificates([lab.certificate])):
            assert list(certs.read_certificates(data, "a.pem")) == [lab.certificate]
            assert certs.write_key(certs.read_key(data, "a.pem")) == certs.write_key(lab.key)
            assert certs.has_key(data)

    def test_text_around_it_does_not_matter(self, lab: certs.KeyPair) -> None:
        data = "Schlüssel von mir\n".encode() + lab.to_pem() + b"\nend"
        assert list(certs.read_certificates(data, "a.pem")) == [lab.certificate]
        certs.read_key(data, "a.pem")

    def test_key_with_parameters_before_it(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        written = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        data = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + written
        assert certs.public_bytes(certs.read_key(data, "k").public_key()) == certs.public_bytes(
            key.public_key()
        )

    @pytest.mark.parametrize("style", ["PKCS8", "TraditionalOpenSSL"])
    def test_encrypted_key(self, style: str) -> None:
        data = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            getattr(serialization.PrivateFormat, style),
            serialization.BestAvailableEncryption(b"password"),
        )
        with pytest.raises(CredentialsError, match=r"'k\.pem' is encrypted.*openssl pkey -in k\.pem"):
            certs.read_key(data, "k.pem")

    def test_what_is_missing_or_damaged(self, lab: certs.KeyPair) -> None:
        certificate, key = certs.write_certificates([lab.certificate]), certs.write_key(lab.key)
        assert not certs.has_key(certificate)
        with pytest.raises(CredentialsError, match="holds no private key"):
            certs.read_key(certificate, "a.pem")
        with pytest.raises(CredentialsError, match="holds no certificate"):
            certs.read_certificates(key, "a.pem")
        with pytest.raises(CredentialsError, match="is damaged"):
            certs.read_certificates(certificate[:60] + certificate[80:], "a.pem")
        with pytest.raises(CredentialsError, match="cannot be read"):
            certs.read_key(key.replace(b"MC4C", b"MC4D"), "a.pem")


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(CredentialsError, match="larger than"):
        certs.read_file(str(large))
    with pytest.raises(CredentialsError, match="No such file"):
        certs.read_file(str(tmp_path / "none"))
    large.write_bytes(b"x" * MAX_BYTES)
    assert len(certs.read_file(str(large))) == MAX_BYTES
