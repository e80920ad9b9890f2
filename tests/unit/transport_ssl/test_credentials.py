from __future__ import annotations

import datetime
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from dispy.errors import CredentialsError
from dispy.interfaces import Credential, SecurityRequest
from dispy.model import AccessRole
from dispy_testing.contracts import check_credentials
from dispy_transport_ssl import certificates as certs
from dispy_transport_ssl.credentials import RENEW_S, CertificateCredentials
from dispy_transport_ssl.security import SslSecurity

Load = Callable[..., Credential]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def write(name: str, *parts: bytes, mode: int = 0o600) -> str:
        path = tmp_path / name
        path.write_bytes(b"".join(parts))
        path.chmod(mode)
        return str(path)

    return write


Write = Callable[..., str]


@pytest.fixture
def load(world) -> Load:
    def load(*, now: datetime.datetime | None = world.now, **files: str) -> Credential:
        source = CertificateCredentials(lambda: now) if now else CertificateCredentials()
        (credential,) = source.load(SecurityRequest(AccessRole.SUBMIT, **files))
        return credential

    return load


@pytest.fixture
def lab(world) -> bytes:
    """The authority's certificate."""
    return certs.write_certificates([world.lab.certificate])


@pytest.fixture
def alpha(world) -> certs.KeyPair:
    return certs.issue(world.lab, "alpha", roles=[AccessRole.NODE], days=30, now=world.now)


def parts(pair: certs.KeyPair) -> tuple[bytes, bytes]:
    return certs.write_certificates([pair.certificate]), certs.write_key(pair.key)


def openssl_pair(folder: Path, *options: str) -> tuple[str, str]:
    """Make the pair as the documents of the original told users to."""
    certificate, key = folder / "c.pem", folder / "k.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-days", "9", "-subj", "/CN=shared", *options]
    done = subprocess.run(
        [*command, "-keyout", key, "-out", certificate], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    key.chmod(0o600)
    return str(certificate), str(key)


def test_contract(write: Write, lab: bytes, alpha: certs.KeyPair, world, tmp_path: Path) -> None:
    certificate, key = parts(alpha)
    both, ca = write("both.pem", certificate, key), write("ca.pem", lab)
    cases = [
        {},
        {"certfile": str(tmp_path / "missing.pem"), "cafile": ca},
        {"certfile": both, "cafile": str(tmp_path / "missing.pem")},
        {"certfile": both},
        {"certfile": both, "cafile": write("empty.pem")},
        {"certfile": write("empty.pem"), "cafile": ca},
        {"certfile": write("certificate.pem", certificate), "cafile": ca},
        {"certfile": write("cut.pem", certificate[:-40], key), "cafile": ca},
        {"certfile": write("seen.pem", certificate, key, mode=0o644), "cafile": ca},
        {"certfile": both, "keyfile": write("other.pem", parts(world.stranger)[1]), "cafile": ca},
    ]
    trio.run(
        check_credentials,
        CertificateCredentials,
        SslSecurity,
        SecurityRequest(AccessRole.NODE, certfile=both, cafile=ca),
        [SecurityRequest(AccessRole.NODE, **files) for files in cases],
        strict_exception_groups=True,
    )


class TestAuthority:
    def test_separate_files(self, write: Write, load: Load, lab: bytes, alpha: certs.KeyPair) -> None:
        certificate, key = parts(alpha)
        found = load(
            certfile=write("c.pem", certificate, mode=0o644),
            keyfile=write("k.pem", key),
            cafile=write("ca.pem", lab, mode=0o644),
        )
        assert (found.chain, found.key, found.authorities) == (certificate, key, lab)
        assert found.default_roles == frozenset()
        assert found.hint_key == b""
        assert found.name.startswith("certificate 'alpha' (")
        assert "authority 'lab' (" in found.name

    @pytest.mark.parametrize("swap", [False, True])
    def test_one_file(
        self, write: Write, load: Load, lab: bytes, alpha: certs.KeyPair, world, tools, swap: bool
    ) -> None:
        both = parts(alpha)[::-1] if swap else parts(alpha)
        found = load(certfile=write("c.pem", *both), cafile=write("ca.pem", lab))
        of_node, _of_client = tools.shake_hands(
            world.credential("mary", AccessRole.SUBMIT), found
        ).identities()
        assert of_node.roles == {AccessRole.NODE}

    def test_authority_beside_the_certificate(
        self, write: Write, load: Load, lab: bytes, alpha: certs.KeyPair
    ) -> None:
        found = load(certfile=write("c.pem", lab, *parts(alpha)))
        assert found.authorities == lab
        assert found.chain.startswith(parts(alpha)[0])
        assert found.default_roles == frozenset()

    def test_no_authority(self, write: Write, load: Load, alpha: certs.KeyPair) -> None:
        with pytest.raises(CredentialsError, match="as cafile"):
            load(certfile=write("c.pem", *parts(alpha)))

    def test_self_signed_with_cafile_shares_no_roles(
        self, write: Write, load: Load, world, lab: bytes
    ) -> None:
        found = load(certfile=write("c.pem", *parts(world.stranger)), cafile=write("ca.pem", lab))
        assert found.default_roles == frozenset()
        assert found.authorities == lab

    def test_expired_authority(self, write: Write, load: Load, world, alpha: certs.KeyPair) -> None:
        old = certs.make_authority("old", years=1, now=world.now - 999 * world.day)
        ca = write("ca.pem", certs.write_certificates([old.certificate]))
        with pytest.raises(
            CredentialsError, match=r"'old'.* has expired: make another one with `dispy cert init`"
        ):
            load(certfile=write("c.pem", *parts(alpha)), cafile=ca)

    def test_one_of_two_authorities_has_expired(
        self, write: Write, load: Load, world, alpha: certs.KeyPair, lab: bytes
    ) -> None:
        old = certs.make_authority("old", years=1, now=world.now - 999 * world.day)
        ca = write("ca.pem", certs.write_certificates([old.certificate]), lab)
        assert "'lab'" in load(certfile=write("c.pem", *parts(alpha)), cafile=ca).name


class TestSharedPair:
    """One self-signed certificate and its key for all, as in the original."""

    @pytest.mark.parametrize(
        "options",
        [
            ["-newkey", "rsa:2048"],
            ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
            ["-newkey", "rsa:2048", "-addext", "basicConstraints=critical,CA:FALSE"],
        ],
        ids=["rsa", "ec", "no-ca"],
    )
    def test_of_openssl(self, tmp_path: Path, load: Load, tools, options: list[str]) -> None:
        certfile, keyfile = openssl_pair(tmp_path, *options)
        pair = load(now=None, certfile=certfile, keyfile=keyfile)
        assert pair.default_roles == {AccessRole.NODE, AccessRole.ADMIN}
        for identity in tools.shake_hands(pair, pair).identities():
            assert identity.roles == {AccessRole.NODE, AccessRole.ADMIN}
            assert identity.name == pair.name
            assert "'shared'" in identity.name

    def test_another_pair_is_refused(self, tmp_path: Path, load: Load, tools) -> None:
        found = []
        for name in "ab":
            (tmp_path / name).mkdir()
            certfile, keyfile = openssl_pair(
                tmp_path / name, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"
            )
            found.append(load(now=None, certfile=certfile, keyfile=keyfile))
        for error, own in zip(tools.shake_hands(*found).errors(), found, strict=True):
            assert own.name in str(error)

    def test_weak_key_is_told_at_once(self, tmp_path: Path, load: Load) -> None:
        certfile, keyfile = openssl_pair(tmp_path, "-newkey", "rsa:512")
        with pytest.raises(CredentialsError, match="too small"):
            load(now=None, certfile=certfile, keyfile=keyfile)


class TestTime:
    def test_renewal(self, write: Write, load: Load, world, lab: bytes, alpha: certs.KeyPair) -> None:
        files = {"certfile": write("c.pem", *parts(alpha)), "cafile": write("ca.pem", lab)}
        assert load(**files).renew_at == world.now.timestamp() + RENEW_S
        late = alpha.certificate.not_valid_after_utc - datetime.timedelta(hours=1)
        assert load(now=late, **files).renew_at == late.timestamp() + 1800

    def test_outside_its_time(
        self, write: Write, load: Load, world, lab: bytes, alpha: certs.KeyPair
    ) -> None:
        files = {"certfile": write("c.pem", *parts(alpha)), "cafile": write("ca.pem", lab)}
        with pytest.raises(
            CredentialsError, match=r"has expired on .* UTC: renew it with `dispy cert renew`"
        ):
            load(now=alpha.certificate.not_valid_after_utc, **files)
        with pytest.raises(CredentialsError, match="is the clock of this machine right"):
            load(now=world.now - world.day, **files)


class TestFiles:
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
    def test_key_that_others_can_read(
        self, write: Write, load: Load, lab: bytes, alpha: certs.KeyPair, mode: int
    ) -> None:
        certificate, key = parts(alpha)
        keyfile = write("k.pem", key, mode=mode)
        with pytest.raises(CredentialsError, match=rf"chmod 600 {keyfile}"):
            load(certfile=write("c.pem", certificate), keyfile=keyfile, cafile=write("ca.pem", lab))
        both = write("both.pem", certificate, key, mode=mode)
        with pytest.raises(CredentialsError, match=rf"chmod 600 {both}"):
            load(certfile=both, cafile=write("ca.pem", lab))

    def test_no_key(self, write: Write, load: Load, alpha: certs.KeyPair) -> None:
        with pytest.raises(CredentialsError, match="name the file that does as keyfile"):
            load(certfile=write("c.pem", parts(alpha)[0], mode=0o644))

    def test_key_of_another_certificate(self, write: Write, load: Load, world, alpha: certs.KeyPair) -> None:
        keyfile = write("k.pem", parts(world.lab)[1])
        with pytest.raises(CredentialsError, match=rf"{keyfile}' belongs to no certificate"):
            load(certfile=write("c.pem", parts(alpha)[0]), keyfile=keyfile)

    def test_no_file(self, load: Load, tmp_path: Path) -> None:
        with pytest.raises(CredentialsError, match="No such file"):
            load(certfile=str(tmp_path / "none.pem"))
        with pytest.raises(CredentialsError, match="no certificate is named"):
            load()

    def test_home_folder(
        self, write: Write, load: Load, lab: bytes, alpha: certs.KeyPair, tmp_path: Path, monkeypatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        write("c.pem", *parts(alpha))
        write("ca.pem", lab)
        assert load(certfile="~/c.pem", cafile="~/ca.pem").authorities == lab
