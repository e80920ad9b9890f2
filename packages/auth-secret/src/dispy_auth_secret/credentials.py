"""Credentials from a shared secret: where it is looked for, and what is made of it.

The first of these that is there counts; an empty text is as good as none:

    what the user gave       ``JobCluster(secret="...")``, ``-s``
    a file that was named    ``--secret-file``
    ``DISPY_SECRET``         the secret itself; it stays in the environment of a client, a node takes it out
    ``DISPY_SECRET_FD``      number of an open descriptor to read it from, once; it is closed then
    the key file             `dispy_auth_secret.keyfile`, made on first use
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dispy.errors import CredentialsError
from dispy.interfaces import API_VERSION, Credential, Credentials, SecurityRequest
from dispy.model import AccessRole
from dispy.private import MAX_BYTES, read_private
from dispy_auth_secret.derivation import issue_credential, make_private_key
from dispy_auth_secret.keyfile import key_path, load_keys, parse_keys
from dispy_auth_secret.keys import Key, is_key_text, key_of_secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SECRET_VARIABLE = "DISPY_SECRET"
DESCRIPTOR_VARIABLE = "DISPY_SECRET_FD"


class SecretCredentials(Credentials):
    """Gives a credential for each key that is accepted.

    While a credential need not be renewed, the same object is given again.

    Args:
        clock: tells the time, in seconds since the epoch.
    """

    NAME: ClassVar[str] = "secret"
    API_VERSION: ClassVar[int] = API_VERSION

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._issued: dict[tuple[Key, AccessRole, Source], Credential] = {}
        self._private: Ed25519PrivateKey | None = None
        """That of this process. It stays when certificates are renewed: by it others know us again."""

    def load(self, request: SecurityRequest) -> Sequence[Credential]:
        """Return a credential for each key, the preferred one first.

        Raises:
            CredentialsError: the secret cannot be read, or is a key that was not copied exactly.
        """
        keys, source = find_keys(request)
        with self._lock:
            return [self._credential(key, request.role, source) for key in keys]

    def _credential(self, key: Key, role: AccessRole, source: Source) -> Credential:
        known = self._issued.get((key, role, source))
        now = self._clock()
        if known is None or known.renew_at <= now:
            self._private = self._private or make_private_key()
            issued = issue_credential(key, role, socket.gethostname(), now, self._private)
            known = replace(issued, source=source.name, remedy=source.remedy)
            self._issued[key, role, source] = known
        return known


@dataclass(frozen=True, slots=True)
class Source:
    """Where keys are from.

    Attributes:
        name: for people.
        remedy: what to do if the other side has other keys.
    """

    name: str
    remedy: str


GIVEN = Source("secret= or -s", "give the same secret to both sides, letter by letter")
VARIABLE = Source(
    SECRET_VARIABLE,
    f"set {SECRET_VARIABLE} to the same on both sides, or unset it to use the key that `dispy key` shows",
)
DESCRIPTOR = Source(
    f"what {DESCRIPTOR_VARIABLE} leads to",
    f"have both sides read the same secret, or unset {DESCRIPTOR_VARIABLE} to use the key that `dispy key` shows",
)


def _of_file(path: Path) -> Source:
    return Source(f"the file {str(path)!r}", "copy that file to the other machine, or the other one here")


def _of_key_file() -> Source:
    return Source(
        f"the key file {str(key_path())!r}",
        "compare `dispy key list` on both machines, and copy a key with `dispy key show` there and "
        "`dispy key add` here",
    )


def find_keys(request: SecurityRequest) -> tuple[list[Key], Source]:
    """Return the keys to use, the preferred one first, and where they are from; at least one key.

    Raises:
        CredentialsError: the secret cannot be read, or is a key that was not copied exactly.
    """
    if request.secret:
        return [key_of_secret(request.secret)], GIVEN
    if request.secret_file:
        path = Path(request.secret_file).expanduser()
        source = _of_file(path)
        return keys_of_file(read_private(path), source.name), source
    if secret := os.environ.get(SECRET_VARIABLE):
        return [key_of_secret(secret)], VARIABLE
    if passed := _passed_secret.take():
        return keys_of_file(passed, DESCRIPTOR.name), DESCRIPTOR
    return load_keys(), _of_key_file()


def keys_of_file(data: bytes, origin: str) -> list[Key]:
    """Return the keys that a file holds: one a line, or those of a passphrase, which is alone on one line.

    Args:
        data: what is in the file.
        origin: what file it is, for messages.

    Raises:
        CredentialsError: it holds nothing, or neither keys nor a passphrase.
    """
    text = data.decode("utf-8", "surrogateescape")
    if any(is_key_text(line) for line in text.splitlines()):
        return parse_keys(text, origin)
    passphrase = text.strip("\r\n")
    if not passphrase:
        raise CredentialsError(f"{origin} is empty; write a key or a passphrase into it")
    if "\n" in passphrase:
        raise CredentialsError(
            f"{origin} holds neither keys nor a passphrase; write the passphrase alone on one line"
        )
    return [key_of_secret(passphrase)]


class _PassedSecret:
    """What came through a descriptor, which can be read only once in a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._data = b""

    def take(self) -> bytes:
        """Return it; read it first if the variable is there. Empty if nothing was passed."""
        with self._lock:
            if number := os.environ.get(DESCRIPTOR_VARIABLE):
                self._data = _read_descriptor(number)
                del os.environ[DESCRIPTOR_VARIABLE]
            return self._data


_passed_secret = _PassedSecret()


def _read_descriptor(number: str) -> bytes:
    try:
        with open(int(number), "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (ValueError, OSError):
        # The value is not shown, neither here nor by the cause: somebody may have put the secret itself there.
        raise CredentialsError(
            f"{DESCRIPTOR_VARIABLE} is not the number of a descriptor that is open for reading; mend or unset it"
        ) from None
    if not data.strip() or len(data) > MAX_BYTES:
        raise CredentialsError(
            f"what {DESCRIPTOR_VARIABLE} leads to is empty or larger than {MAX_BYTES} bytes; "
            "write a key or a passphrase into it"
        )
    return data
