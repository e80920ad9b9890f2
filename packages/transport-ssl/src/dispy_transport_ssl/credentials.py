"""The credentials ``certificate``: files with certificates that the user names.

With *cafile*, a peer needs a certificate of an authority in it, which tells its roles. Without it the certificate
itself has to be self-signed: then it is the one pair that all share, as in the original dispy, and who has its key
may do everything.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from dispy.errors import CredentialsError
from dispy.interfaces import API_VERSION, Credential, Credentials, SecurityRequest
from dispy.model import AccessRole
from dispy.private import read_private
from dispy_transport_ssl import certificates as certs
from dispy_transport_ssl.contexts import make_client_context

SHARED_ROLES = frozenset({AccessRole.NODE, AccessRole.ADMIN})
"""What everybody may do who has the one pair that all share."""

RENEW_S = 86400.0
"""Files are read again at least that often, since certificates are renewed by putting others in their place."""


class CertificateCredentials(Credentials):
    """Reads the files that the user has named.

    Args:
        clock: gives the time, aware of its zone.
    """

    NAME: ClassVar[str] = "certificate"
    API_VERSION: ClassVar[int] = API_VERSION

    def __init__(
        self, clock: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC)
    ) -> None:
        self._clock = clock
        self._known: dict[SecurityRequest, tuple[bytes, Credential]] = {}
        """Request -> what the files held, and the credential made of it."""

    def load(self, request: SecurityRequest) -> Sequence[Credential]:
        """Return the one credential that the files hold.

        Raises:
            CredentialsError: a file is missing or damaged, its key is open to others, encrypted or that of another
                certificate, or the certificate is not valid now.
        """
        if not request.certfile:
            raise CredentialsError("no certificate is named: pass certfile, or leave keyfile and cafile out")
        content, key = _read_key_and_rest(request.certfile, request.keyfile)
        digest = _digest(content, certs.write_key(key), request)
        known = self._known.get(request)
        if known is not None and known[0] == digest and known[1].renew_at > self._clock().timestamp():
            return [known[1]]  # the very same: TLS keeps what it has made of it
        leaf, others = _pick_leaf(certs.read_certificates(content, request.certfile), key, request)
        now = self._clock()
        _check_validity(leaf, request.certfile, now)
        is_shared = not request.cafile and certs.is_self_signed(leaf)
        authorities = [leaf] if is_shared else _authorities(others, request, now)
        credential = Credential(
            name=_name(leaf, authorities),
            chain=certs.write_certificates([leaf] if is_shared else [leaf, *others]),
            key=certs.write_key(key),
            authorities=certs.write_certificates(authorities),
            default_roles=SHARED_ROLES if is_shared else frozenset(),
            roles=certs.roles_in(leaf) or (SHARED_ROLES if is_shared else frozenset()),
            renew_at=now.timestamp() + min((leaf.not_valid_after_utc - now).total_seconds() / 2, RENEW_S),
        )
        make_client_context(credential)  # so that what OpenSSL does not like is found now
        self._known[request] = digest, credential
        return [credential]


def _digest(content: bytes, key: bytes, request: SecurityRequest) -> bytes:
    """Return what changes whenever the files do."""
    authorities = certs.read_file(request.cafile) if request.cafile else b""
    return hashlib.sha256(b"\0".join((content, key, authorities))).digest()


def _read_key_and_rest(certfile: str, keyfile: str) -> tuple[bytes, PrivateKeyTypes]:
    content = certs.read_file(certfile)
    if keyfile:
        return content, certs.read_key(read_private(Path(keyfile).expanduser()), keyfile)
    if not certs.has_key(content):
        raise CredentialsError(f"{certfile!r} holds no private key: name the file that does as keyfile")
    content = read_private(Path(certfile).expanduser())
    return content, certs.read_key(content, certfile)


def _pick_leaf(
    found: Sequence[x509.Certificate], key: PrivateKeyTypes, request: SecurityRequest
) -> tuple[x509.Certificate, list[x509.Certificate]]:
    public = certs.public_bytes(key.public_key())
    for leaf in found:
        if certs.public_bytes(leaf.public_key()) == public:
            return leaf, [other for other in found if other is not leaf]
    raise CredentialsError(
        f"the private key in {request.keyfile or request.certfile!r} belongs to no certificate in "
        f"{request.certfile!r}: name the file with the one that was made with it"
    )


def _check_validity(leaf: x509.Certificate, certfile: str, now: datetime.datetime) -> None:
    if leaf.not_valid_after_utc <= now:
        raise CredentialsError(
            f"{certs.describe(leaf)} in {certfile!r} has expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: "
            "renew it with `dispy cert renew`, and copy the file here again"
        )
    if leaf.not_valid_before_utc > now:
        raise CredentialsError(
            f"{certs.describe(leaf)} in {certfile!r} is valid from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC "
            "on: is the clock of this machine right?"
        )


def _authorities(
    others: Sequence[x509.Certificate], request: SecurityRequest, now: datetime.datetime
) -> Sequence[x509.Certificate]:
    if request.cafile:
        found = certs.read_certificates(certs.read_file(request.cafile), request.cafile)
    elif others:
        found = others
    else:
        raise CredentialsError(
            f"the certificate in {request.certfile!r} was issued by an authority: name the file with the "
            "certificate of that authority as cafile"
        )
    if all(each.not_valid_after_utc <= now for each in found):
        raise CredentialsError(
            f"the authority's {certs.describe(found[0])} in {request.cafile or request.certfile!r} has expired: "
            "make another one with `dispy cert init`, and issue all certificates anew"
        )
    return found


def _name(leaf: x509.Certificate, authorities: Sequence[x509.Certificate]) -> str:
    if authorities == [leaf]:
        return certs.describe(leaf)
    told = ", ".join(f"{certs.name_of(each)!r} ({certs.fingerprint(each)})" for each in authorities)
    return f"{certs.describe(leaf)} with authority {told}"
