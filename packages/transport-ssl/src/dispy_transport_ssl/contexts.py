"""Makes the `ssl.SSLContext` for credentials: TLS 1.3 only, both sides with certificates, nothing from the system.

Names in certificates are not checked: a peer is known by the authority of its certificate and by the roles in it.
Sessions are never resumed, so each connection proves anew who is at its ends.
"""

from __future__ import annotations

import os
import ssl
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from dispy.errors import CredentialsError
from dispy.interfaces import Credential
from dispy_transport_ssl.hints import is_hint_for


@dataclass(frozen=True, slots=True)
class Gate:
    """What a listening side uses before it knows which of its credentials the client means.

    Attributes:
        context: for the handshake; it refuses clients with a hint that no credential has, before it shows any.
        choices: each context that may take the place of *context*, and its credential.
    """

    context: ssl.SSLContext
    choices: dict[ssl.SSLContext, Credential]


def make_client_context(credential: Credential) -> ssl.SSLContext:
    """Make the context of the side that dials.

    Raises:
        CredentialsError: OpenSSL does not take the credential.
    """
    return _equip(_bare_context(ssl.PROTOCOL_TLS_CLIENT), credential)


def make_gate(credentials: Sequence[Credential]) -> Gate:
    """Make the contexts of the side that listens.

    Raises:
        CredentialsError: OpenSSL does not take one of the credentials.
    """
    choices = {
        _equip(_bare_context(ssl.PROTOCOL_TLS_SERVER), credential): credential for credential in credentials
    }
    context = _bare_context(ssl.PROTOCOL_TLS_SERVER)

    def choose(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        for choice, credential in choices.items():
            if _is_meant(credential, name):
                # It brings certificate, key and authorities; everything else is the same in all of them.
                connection.context = choice
                return None
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context.sni_callback = choose
    context.sslobject_class = _ListeningEnd
    return Gate(context, choices)


class _ListeningEnd(ssl.SSLObject):
    """Shakes hands without a word on standard error about a server name that is not ASCII.

    Python has no other way to tell of it than its hook for exceptions that cannot be raised. It refuses such a name;
    but strangers must not be able to fill anybody's log.
    """

    _hook_lock: ClassVar = threading.Lock()

    def do_handshake(self) -> None:
        """Go on with the handshake as far as what has arrived allows."""
        with self._hook_lock:
            usual_hook, here = sys.unraisablehook, threading.get_ident()

            def hook(event: sys.UnraisableHookArgs) -> None:
                if event.exc_type is not UnicodeDecodeError or threading.get_ident() != here:
                    usual_hook(event)

            sys.unraisablehook = hook
            try:
                super().do_handshake()
            finally:
                sys.unraisablehook = usual_hook


def _is_meant(credential: Credential, name: str | None) -> bool:
    if not credential.hint_key:
        return name is None
    return name is not None and is_hint_for(name, credential.hint_key)


def _bare_context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    # A certificate that is trusted may be a leaf: the one pair that all share is its own authority.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.options |= ssl.OP_NO_TICKET
    # Early releases of Python 3.11 set it: a connection that somebody has cut would then look like one that has ended.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    return context


def _equip(context: ssl.SSLContext, credential: Credential) -> ssl.SSLContext:
    try:
        with _as_file(credential.chain + b"\n" + credential.key) as path:
            context.load_cert_chain(path, password="")  # without it OpenSSL would ask at the terminal
        context.load_verify_locations(cadata=credential.authorities.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise CredentialsError(
            f"{credential.name} cannot be used ({reason.lower().replace('_', ' ')}): issue another one"
        ) from error
    return context


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Give a path under which *content* can be read; `ssl` takes keys from files only.

    Where the system has files that live in memory alone it is one of those. It is gone at the end.
    """
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        with open(os.memfd_create("dispy", os.MFD_CLOEXEC), "wb", buffering=0) as file:
            _write_all(file.fileno(), content)
            yield f"/proc/self/fd/{file.fileno()}"
        return
    with tempfile.TemporaryDirectory(prefix="dispy-") as folder:  # for this user alone
        path = os.path.join(folder, "credential.pem")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, content)
        finally:
            os.close(descriptor)
        yield path


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
