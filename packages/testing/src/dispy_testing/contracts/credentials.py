"""What every source of credentials must do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import trio

from dispy.errors import CredentialsError
from dispy.interfaces import Credential, Credentials, SecurityRequest, StreamSecurity
from dispy.model import AccessRole
from dispy_testing.contracts.meetings import Side, meet
from dispy_testing.contracts.rules import ContractViolation, check_identity, is_text, require

KEY_BYTES = (0, 32)


async def check_credentials(
    make_credentials: Callable[[], Credentials],
    make_security: Callable[[], StreamSecurity],
    good: SecurityRequest,
    bad: Iterable[SecurityRequest] = (),
) -> None:
    """Check a source of credentials; run it with `trio.run`, or in a test under trio.

    Args:
        make_credentials: the class, or a function that gives a new source.
        make_security: the class of what the credentials are for, or a function that gives a new one.
        good: something for which there are credentials.
        bad: requests that it must refuse: files that are missing, hold nothing, or that others can read.

    Raises:
        ContractViolation: it breaks a rule of `dispy.interfaces.Credentials`.
    """
    source = make_credentials()
    check_identity(type(source), Credentials)
    found = await _load(source, good)
    require(len(found) > 0, "load must give at least one credential, or raise a CredentialsError")
    for credential in found:
        _check_credential(credential, good)
    await _check_same(source, good, found)
    await _check_accepted(make_security, found)
    for request in bad:
        await _check_refusal(source, request)
    await _check_same(source, good, found)


async def _load(source: Credentials, request: SecurityRequest) -> Sequence[Credential]:
    try:
        # In a thread, as dispy does it: what works in the main thread only is found.
        return await trio.to_thread.run_sync(source.load, request)
    except Exception as error:
        raise ContractViolation(f"load must give credentials for {request}, but raised {error!r}") from error


def _check_credential(found: Credential, request: SecurityRequest) -> None:
    require(isinstance(found, Credential), f"load must give credentials, not {found!r}")
    require(is_text(found.name) and bool(found.name), f"a credential must have a name, not {found.name!r}")
    require(
        not request.secret or request.secret not in repr(found),
        "the secret that was given must be seen neither in the name of a credential nor in its repr",
    )
    for field in ("chain", "key", "authorities"):
        value = getattr(found, field)
        require(
            isinstance(value, bytes) and b"-----BEGIN " in value,
            f"{field} of {found.name} must be bytes in the form of PEM",
        )
    for name in ("hint_key", "discovery_key"):
        require(len(getattr(found, name)) in KEY_BYTES, f"{name} of {found.name} must have 32 bytes, or none")
    for field in ("roles", "default_roles"):
        roles = getattr(found, field)
        require(
            isinstance(roles, frozenset) and roles <= frozenset(AccessRole),
            f"{field} of {found.name} must be a frozenset of AccessRole, not {roles!r}",
        )
    require(found.renew_at > time.time(), f"{found.name} must not have to be renewed at once")


async def _check_same(source: Credentials, request: SecurityRequest, before: Sequence[Credential]) -> None:
    again = await _load(source, request)
    same = len(again) == len(before) and all(a is b for a, b in zip(again, before, strict=True))
    require(same, "load must give the same objects again, in the same order, as long as nothing has changed")


async def _check_accepted(make_security: Callable[[], StreamSecurity], found: Sequence[Credential]) -> None:
    """Let each credential be shown to a side that has all of them, and the other way round."""
    for credential in found:
        meeting = await meet(Side(make_security(), [credential]), Side(make_security(), found))
        for name, result in (("connect", meeting.dialler), ("accept", meeting.listener)):
            if isinstance(result, Exception):
                raise ContractViolation(
                    f"each credential must be accepted where all of them are, but with {credential.name} "
                    f"{name} raised {result!r}"
                ) from result
        await meeting.close()


async def _check_refusal(source: Credentials, request: SecurityRequest) -> None:
    try:
        found = await trio.to_thread.run_sync(source.load, request)
    except CredentialsError as error:
        require(bool(str(error)), f"a CredentialsError must say what is wrong and what to do, for {request}")
    except Exception as error:
        raise ContractViolation(
            f"load must raise a CredentialsError, not {error!r}, for {request}"
        ) from error
    else:
        raise ContractViolation(f"load must raise a CredentialsError for {request}, but gave {found!r}")
