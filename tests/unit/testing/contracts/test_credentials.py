"""Each rule of the contract of credentials, shown by a source that breaks it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from dispy.errors import CredentialsError
from dispy.interfaces import Credential, SecurityRequest
from dispy.model import AccessRole
from dispy_auth_secret.credentials import SecretCredentials
from dispy_auth_secret.keys import Key
from dispy_testing.contracts import ContractViolation, check_credentials
from dispy_transport_ssl.security import SslSecurity

KEYS = [Key(bytes([number] * 32)).text for number in (1, 2)]


class Source(SecretCredentials):
    """Keeps the contract; variants change what is given for good requests."""

    def load(self, request: SecurityRequest) -> Sequence[Credential]:
        return self.change(super().load(request))

    def change(self, found: Sequence[Credential]) -> Sequence[Credential]:
        return found


class Changing(Source):
    """Changes one field."""

    field: tuple[str, object]

    def change(self, found: Sequence[Credential]) -> Sequence[Credential]:
        return [replace(found[0], **dict([self.field])), *found[1:]]


class Nameless(Changing):
    field = "name", ""


class Telling(Source):
    def load(self, request: SecurityRequest) -> Sequence[Credential]:
        if not request.secret:
            return super().load(request)
        return [replace(one, name=f"key {request.secret}") for one in super().load(request)]


class Binary(Changing):
    field = "chain", b"\x30\x82"


class Hinting(Changing):
    field = "hint_key", b"short"


class Discovering(Changing):
    field = "discovery_key", b"short"


class Listed(Changing):
    field = "default_roles", ["node"]


class Due(Changing):
    field = "renew_at", 0.0


class Fresh(Changing):
    field = "name", "another one each time"


class Empty(Source):
    def change(self, found: Sequence[Credential]) -> Sequence[Credential]:
        return []


class Foreign(Source):
    def change(self, found: Sequence[Credential]) -> Sequence[Credential]:
        return [one.chain for one in found]  # type: ignore[misc]


class Sedentary(Source):
    """Works in the main thread only."""

    def change(self, found: Sequence[Credential]) -> Sequence[Credential]:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("not in the main thread")
        return found


class Mixed(Source):
    """Accepts for each key what was made with the other one."""

    def __init__(self) -> None:
        super().__init__()
        self.given: Sequence[Credential] = ()

    def change(self, found: Sequence[Credential]) -> Sequence[Credential]:
        if not self.given:
            authorities = [one.authorities for one in reversed(found)]
            self.given = [
                replace(one, authorities=each) for one, each in zip(found, authorities, strict=True)
            ]
        return self.given


class Failing(Source):
    """Does something else than the contract wants when there is nothing."""

    def load(self, request: SecurityRequest) -> Sequence[Credential]:
        try:
            return super().load(request)
        except CredentialsError:
            return self.fail(request)

    def fail(self, request: SecurityRequest) -> Sequence[Credential]:
        raise NotImplementedError


class Lenient(Failing):
    def fail(self, request: SecurityRequest) -> Sequence[Credential]:
        return super().load(replace(request, secret=KEYS[0]))


class Blunt(Failing):
    def fail(self, request: SecurityRequest) -> Sequence[Credential]:
        raise FileNotFoundError(2, "No such file or directory", request.secret_file)


class Mute(Failing):
    def fail(self, request: SecurityRequest) -> Sequence[Credential]:
        raise CredentialsError


class Forgetful(Failing):
    def fail(self, request: SecurityRequest) -> Sequence[Credential]:
        self._issued.clear()
        raise CredentialsError(f"{request.secret_file} is no good; name another one")


@pytest.fixture
def check(tmp_path: Path):
    path = tmp_path / "keys"
    path.write_text("".join(f"{key}\n" for key in KEYS))
    path.chmod(0o600)
    several = SecurityRequest(AccessRole.NODE, secret_file=str(path))
    missing = SecurityRequest(AccessRole.NODE, secret_file=str(tmp_path / "missing"))

    def check(source: type[SecretCredentials], good: SecurityRequest = several) -> None:
        trio.run(
            check_credentials,
            source,
            SslSecurity,
            good,
            [missing],
            clock=trio.testing.MockClock(autojump_threshold=0),
            strict_exception_groups=True,
        )

    return check


def test_what_keeps_the_rules_passes(check) -> None:
    check(Source)


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        (Empty, "load must give at least one credential"),
        (Foreign, "load must give credentials, not b'-----BEGIN"),
        (Sedentary, "load must give credentials for .*, but raised RuntimeError"),
        (Nameless, "a credential must have a name, not ''"),
        (Binary, "chain of key .* must be bytes in the form of PEM"),
        (Hinting, "hint_key of key .* must have 32 bytes, or none"),
        (Discovering, "discovery_key of key .* must have 32 bytes, or none"),
        (Listed, r"default_roles of key .* must be a frozenset of AccessRole, not \['node'\]"),
        (Due, "must not have to be renewed at once"),
        (Fresh, "load must give the same objects again"),
        (Mixed, "each credential must be accepted where all of them are, but with key .* raised"),
        (Lenient, "load must raise a CredentialsError for .*missing.*, but gave"),
        (Blunt, "load must raise a CredentialsError, not FileNotFoundError"),
        (Mute, "a CredentialsError must say what is wrong and what to do"),
        (Forgetful, "load must give the same objects again"),
    ],
)
def test_violations_are_named(check, source: type[SecretCredentials], rule: str) -> None:
    with pytest.raises(ContractViolation, match=rule):
        check(source)


def test_secret_must_not_be_told(check) -> None:
    with pytest.raises(ContractViolation, match="must be seen neither in the name") as caught:
        check(Telling, SecurityRequest(AccessRole.NODE, secret=KEYS[0]))
    assert KEYS[0] not in str(caught.value)
