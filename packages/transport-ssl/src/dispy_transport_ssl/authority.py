"""A certificate authority in a folder, for ``dispy cert``.

ca.pem        certificate of the authority; everybody who takes part needs a copy
ca-key.pem    its key: who has it can issue certificates with any role
NAME.pem      certificate and key of NAME
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dispy.errors import CredentialsError, UsageError
from dispy.model import AccessRole
from dispy.private import create_private, make_private_folder, only_one, read_private, write_private
from dispy_transport_ssl import certificates as certs

CA_FILE = "ca.pem"
CA_KEY_FILE = "ca-key.pem"
SUFFIX = ".pem"

NAME_FORM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
RESERVED_NAMES = frozenset({"ca", "ca-key"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A certificate in the folder.

    Attributes:
        role_names: what it allows; empty for the authority itself.
    """

    path: Path
    name: str
    fingerprint: str
    role_names: tuple[str, ...]
    expires: datetime.datetime


class AuthorityFolder:
    """The files of one authority.

    Args:
        path: the folder; it need not exist before `init`.
        now: the time, aware of its zone.
    """

    def __init__(self, path: Path, now: datetime.datetime) -> None:
        self.path = path
        self._now = now

    def init(self, name: str, *, years: float) -> Entry:
        """Make the authority.

        If that was broken off, do it again: the key that is there is used, in case something was issued with it.

        Raises:
            CredentialsError: there is one already, the key that is there cannot be used, or the files cannot be
                written.
        """
        make_private_folder(self.path)
        certificate, key_path = self.path / CA_FILE, self.path / CA_KEY_FILE
        with only_one(self.path):
            if os.path.lexists(certificate):
                raise CredentialsError(
                    f"there is an authority in {str(self.path)!r} already; move the folder away to make another "
                    "one, and issue all certificates anew then"
                )
            if os.path.lexists(key_path):
                key = _read_authority_key(key_path)
            else:
                key = certs.make_key()
                write_private(key_path, certs.write_key(key))
            pair = certs.make_authority(name, key, years=years, now=self._now)
            # What makes an authority is the certificate, which comes last: before, nothing can be issued.
            write_private(certificate, certs.write_certificates([pair.certificate]))
        return _entry(certificate, pair.certificate)

    def issue(self, name: str, *, roles: Iterable[AccessRole], days: float) -> Entry:
        """Make a certificate and its key.

        Raises:
            UsageError: *name* cannot be the name of a file.
            CredentialsError: there is one of that name, or no authority, or a file cannot be read or written.
        """
        path = self._path_of(name)
        pair = certs.issue(self._authority(), name, roles=roles, days=days, now=self._now)
        if not create_private(path, pair.to_pem()):
            raise CredentialsError(f"{str(path)!r} exists already: renew it with `dispy cert renew {name}`")
        return _entry(path, pair.certificate)

    def renew(self, name: str, *, days: float | None) -> Entry:
        """Put another certificate and key with the same roles in the place of those of *name*.

        Args:
            days: how long it is to be valid; None: as long as the old one was.

        Raises:
            UsageError, CredentialsError: as `issue` does; there is none of that name, or it tells no roles.
        """
        path = self._path_of(name)
        if not path.exists():
            raise CredentialsError(f"there is no {str(path)!r}: make it with `dispy cert issue {name}`")
        old = _read_certificate(path)
        roles = certs.roles_in(old)
        if not roles:
            raise CredentialsError(
                f"{str(path)!r} tells no role: move it away, and use `dispy cert issue {name}`"
            )
        if days is None:
            days = (
                old.not_valid_after_utc - old.not_valid_before_utc - certs.BACKDATE
            ).total_seconds() / 86400
        pair = certs.issue(self._authority(), name, roles=roles, days=days, now=self._now)
        write_private(path, pair.to_pem())
        return _entry(path, pair.certificate)

    def entries(self) -> list[Entry]:
        """Return all certificates, the authority's first, then by name.

        Raises:
            CredentialsError: there is no authority, or a file cannot be read.
        """
        self._require()
        paths = sorted(self.path.glob(f"*{SUFFIX}"), key=lambda path: (path.name != CA_FILE, path.name))
        return [_entry(path, _read_certificate(path)) for path in paths if path.name != CA_KEY_FILE]

    def _path_of(self, name: str) -> Path:
        if not NAME_FORM.fullmatch(name) or name in RESERVED_NAMES:
            raise UsageError(
                f"{name!r} cannot be the name of a certificate: use up to 40 letters, digits, '.', '_' and '-', "
                "and not 'ca' or 'ca-key'"
            )
        return self.path / (name + SUFFIX)

    def _require(self) -> None:
        if not (self.path / CA_FILE).exists():
            raise CredentialsError(
                f"there is no authority in {str(self.path)!r}: make one with `dispy cert init`"
            )

    def _authority(self) -> certs.KeyPair:
        self._require()
        path, key_path = self.path / CA_FILE, self.path / CA_KEY_FILE
        certificate = _read_certificate(path)
        if certificate.not_valid_after_utc <= self._now:
            raise CredentialsError(
                f"the authority in {str(self.path)!r} has expired: move the folder away, and make another one "
                "with `dispy cert init`"
            )
        return certs.KeyPair(certificate, certs.read_key(read_private(key_path), str(key_path)))


def _read_authority_key(path: Path) -> Ed25519PrivateKey:
    key = certs.read_key(read_private(path), str(path))
    if not isinstance(key, Ed25519PrivateKey):
        raise CredentialsError(f"{str(path)!r} is of another kind than ours: move it away, and try again")
    return key


def _read_certificate(path: Path) -> x509.Certificate:
    content = certs.read_file(str(path)) if path.name == CA_FILE else read_private(path)
    return certs.read_certificates(content, str(path))[0]


def _entry(path: Path, certificate: x509.Certificate) -> Entry:
    roles = certs.roles_in(certificate) or frozenset()
    return Entry(
        path,
        certs.name_of(certificate),
        certs.fingerprint(certificate),
        tuple(role.value for role in AccessRole if role in roles),
        certificate.not_valid_after_utc,
    )
