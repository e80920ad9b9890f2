"""Who is accepted at the other end of a connection, with plugins that prove what the test says."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dispy.discovery import DiscoveryKeys
from dispy.errors import (
    CredentialsError,
    PluginNotInstalled,
    SecurityError,
    TransportError,
    UnknownKey,
    UsageError,
)
from dispy.hookspecs import hookimpl
from dispy.interfaces import (
    API_VERSION,
    Credential,
    Credentials,
    Identity,
    Peer,
    SecurityRequest,
    StreamSecurity,
)
from dispy.model import OPEN, AccessRole, Role
from dispy.plugins import PluginManager
from dispy.runtime import trust as trusting
from dispy.runtime.greeting import make_hello
from dispy.runtime.trust import (
    ANYBODY,
    FRESH_S,
    HANDSHAKE_S,
    OPEN_REALM,
    Connection,
    Trust,
    TrustStore,
    make_request,
    owner_of,
    proof_to,
    refuse_public,
    roles_of,
)
from dispy.wire.owner import Owner, make_proof
from dispy.wire.rights import EVERYTHING

NODE = Peer("10.0.0.1", is_local=False)
OBSERVE, SUBMIT, ADMIN = AccessRole.OBSERVE, AccessRole.SUBMIT, AccessRole.ADMIN


class FakeStream(trio.abc.Stream):
    """A stream that only knows whether it is closed."""

    def __init__(self) -> None:
        self.is_closed = False

    async def aclose(self) -> None:
        self.is_closed = True
        await trio.lowlevel.checkpoint()

    async def send_all(self, data: object) -> None:
        raise NotImplementedError

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        raise NotImplementedError


class Secured(FakeStream):
    """What is made of a stream."""

    def __init__(self, below: trio.abc.Stream, names: Sequence[str]) -> None:
        super().__init__()
        self.below = below
        self.names = names


class World:
    """Plugins, what they were asked for, and what the other side makes of it.

    Attributes:
        held: credentials of each source; a peer has the roles of the first that it is asked with.
        errors: name of a credential -> what is raised when it is shown.
    """

    def __init__(self) -> None:
        self.held: dict[str, list[Credential]] = {
            "secret": [credential("key one")],
            "certificate": [credential("certificate", SUBMIT)],
        }
        self.errors: dict[str, BaseException] = {}
        self.mute: set[str] = set()
        self.loads: list[tuple[str, SecurityRequest]] = []
        self.shown: list[str] = []
        self.dialled: list[FakeStream] = []
        self.told: dict[str, tuple[str, str]] = {}
        """Name of a credential -> subject and key that a peer shows with it."""
        self.now = 1000.0
        self.plugins = PluginManager.load([_Plugin(self)], entry_points=[])

    def trust(self, **parameters: Any) -> Trust:
        return TrustStore(self.plugins).get(make_request(ADMIN, **parameters))

    async def dial(self) -> Connection:
        await trio.lowlevel.checkpoint()
        self.dialled.append(FakeStream())
        return self.dialled[-1], NODE

    async def prove(self, stream: trio.abc.Stream, held: Sequence[Credential]) -> Connection:
        """Stand for a handshake."""
        names = [one.name for one in held]
        self.shown += names
        await trio.lowlevel.checkpoint()
        for name in names:
            if name in self.mute:
                await trio.sleep_forever()
            if name in self.errors:
                raise self.errors[name]
        told = self.told.get(names[0], ("", ""))
        identity = Identity(f"peer with {names[0]}", held[0].default_roles, *told)
        return Secured(stream, names), identity  # type: ignore[return-value]


class _Plugin:
    def __init__(self, world: World) -> None:
        class _Source(Credentials):
            API_VERSION: ClassVar[int] = API_VERSION

            def load(self, request: SecurityRequest) -> Sequence[Credential]:
                world.loads.append((self.NAME, request))
                return world.held[self.NAME]

        class Secret(_Source):
            NAME: ClassVar[str] = "secret"

        class Certificate(_Source):
            NAME: ClassVar[str] = "certificate"

        class Security(StreamSecurity):
            NAME: ClassVar[str] = "ssl"
            API_VERSION: ClassVar[int] = API_VERSION

            async def connect(self, stream: trio.abc.Stream, credential: Credential, *, wants: object) -> Any:
                assert wants == frozenset({AccessRole.NODE})
                return await world.prove(stream, [credential])

            async def accept(
                self, stream: trio.abc.Stream, credentials: Sequence[Credential], *, wants: object
            ) -> Any:
                assert wants == frozenset(AccessRole) - {AccessRole.NODE}
                return await world.prove(stream, credentials)

        self.sources = [Secret, Certificate]
        self.security = Security

    @hookimpl
    def dispy_register_security(self) -> type[StreamSecurity]:
        return self.security

    @hookimpl
    def dispy_register_credentials(self) -> Sequence[type[Credentials]]:
        return self.sources


def credential(name: str, *roles: AccessRole, renew_at: float = float("inf")) -> Credential:
    return Credential(name, b"", b"", b"", frozenset(roles or (ADMIN,)), renew_at=renew_at)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()

    class Clock:
        monotonic = staticmethod(lambda: made.now)
        time = staticmethod(lambda: made.now)

    monkeypatch.setattr(trusting, "time", Clock)
    return made


def run(script: Callable[[], Awaitable[Any]]) -> Any:
    return trio.run(script, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


def connect(world: World, **parameters: Any) -> Connection:
    trust = world.trust(**parameters)
    return run(lambda: trust.connect(world.dial))  # type: ignore[no-any-return]


# Roles


def test_who_was_not_asked_may_do_nothing() -> None:
    assert roles_of(NODE) == frozenset()
    assert roles_of(Peer("h", is_local=True)) == frozenset()
    assert roles_of(Peer("h", is_local=True, identity=Identity("x", frozenset()))) == frozenset()


def test_proof_is_for_the_key_of_the_peer() -> None:
    proofs = [
        proof_to(replace(NODE, identity=identity), b"s" * 32)
        for identity in (None, Identity("x", frozenset()), Identity("x", frozenset(), key="a" * 64))
    ]
    assert proofs[0] == proofs[1] == make_proof(b"s" * 32, "")
    assert proofs[2] == make_proof(b"s" * 32, "a" * 64)


@pytest.mark.parametrize(
    ("roles", "may_act"),
    [({OBSERVE}, False), ({SUBMIT}, True), ({ADMIN}, True), ({AccessRole.NODE}, True), ((), False)],
)
def test_owner_is_whom_the_certificate_names_with_what_it_has_shown(roles: Any, may_act: bool) -> None:
    hello = make_hello(Role.CLIENT, "c", name="c", proof=b"shown")
    peer = replace(NODE, identity=Identity("x", frozenset(roles), subject="mary", key="k"))
    assert owner_of(peer, hello) == Owner("mary", b"shown", may_act)
    assert owner_of(NODE, hello) == Owner("", b"shown", False)


def test_who_was_asked_has_the_roles_that_were_proved(world: World) -> None:
    world.held["secret"] = [credential("key", SUBMIT)]
    stream, peer = connect(world)
    assert isinstance(stream, Secured)
    assert stream.below is world.dialled[0]
    assert (peer.host, peer.is_local) == (NODE.host, NODE.is_local)
    assert peer.identity == Identity("peer with key", frozenset({SUBMIT, OBSERVE}))
    assert roles_of(peer) == {SUBMIT, OBSERVE}


@pytest.mark.parametrize("side", ["connect", "accept"])
@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (SUBMIT, ADMIN, {SUBMIT, OBSERVE}),
        (ADMIN, OBSERVE, {OBSERVE}),
        (AccessRole.NODE, SUBMIT, set()),
    ],
)
def test_of_two_layers_each_has_to_give_a_role(
    world: World, side: str, one: AccessRole, other: AccessRole, both: set[AccessRole]
) -> None:
    world.held = {"certificate": [credential("certificate", one)], "secret": [credential("key", other)]}
    world.told = {"certificate": ("mary", ""), "key": ("", "k")}
    trust = world.trust(secret="x", certfile="/c.pem")
    below = FakeStream()

    async def script() -> Connection:
        return await (trust.connect(world.dial) if side == "connect" else trust.accept(below, NODE))

    stream, peer = run(script)
    assert world.shown == ["certificate", "key"]  # in this order on both sides
    assert isinstance(stream.below, Secured)
    assert roles_of(peer) == both
    assert peer.identity.name == "peer with certificate and peer with key"
    assert (peer.identity.subject, peer.identity.key) == ("mary", "k")


# Connecting


def test_second_key_is_tried_on_a_new_connection(world: World) -> None:
    world.held["secret"] = [credential("new"), credential("old", SUBMIT), credential("oldest")]
    world.errors["new"] = UnknownKey("not this one")
    stream, peer = connect(world)
    assert world.shown == ["new", "old"]
    assert [below.is_closed for below in world.dialled] == [True, False]
    assert isinstance(stream, Secured)
    assert stream.below is world.dialled[1]
    assert roles_of(peer) == {SUBMIT, OBSERVE}


def test_when_no_key_fits_the_last_reason_is_told_and_all_is_closed(world: World) -> None:
    world.held["secret"] = [credential("new"), credential("old")]
    world.errors = {"new": UnknownKey("not the new one"), "old": UnknownKey("not the old one")}
    with pytest.raises(UnknownKey, match="not the old one"):
        connect(world)
    assert [below.is_closed for below in world.dialled] == [True, True]


@pytest.mark.parametrize("error", [SecurityError("expired"), TransportError("lost"), RuntimeError("a bug")])
def test_other_failures_end_the_search_and_close_everything(world: World, error: Exception) -> None:
    world.held["secret"] = [credential("new"), credential("old")]
    world.errors["new"] = error
    with pytest.raises(type(error), match=str(error)):
        connect(world)
    assert world.shown == ["new"]
    assert [below.is_closed for below in world.dialled] == [True]


def test_failure_of_the_second_layer_closes_the_connection(world: World) -> None:
    world.errors["key one"] = SecurityError("wrong role")
    with pytest.raises(SecurityError, match="wrong role"):
        connect(world, secret="x", certfile="c")
    assert world.shown == ["certificate", "key one"]
    assert [below.is_closed for below in world.dialled] == [True]


def test_second_dial_that_fails_leaves_nothing_open(world: World) -> None:
    world.held["secret"] = [credential("new"), credential("old")]
    world.errors["new"] = UnknownKey("not this one")
    dial = world.dial

    async def once() -> Connection:
        if world.dialled:
            raise TransportError("gone")
        return await dial()

    world.dial = once  # type: ignore[method-assign]
    with pytest.raises(TransportError, match="gone"):
        connect(world)
    assert [below.is_closed for below in world.dialled] == [True]


def test_cancellation_leaves_nothing_open(world: World) -> None:
    world.mute.add("key one")
    trust = world.trust()

    async def script() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trust.connect, world.dial)
            await wait_all_tasks_blocked()
            while not world.shown:  # the credentials come from a thread
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    run(script)
    assert [below.is_closed for below in world.dialled] == [True]


@pytest.mark.parametrize("layers", [{}, {"secret": "x", "certfile": "c"}])
def test_who_proves_nothing_is_given_up(world: World, layers: dict[str, Any]) -> None:
    world.mute.add("key one")
    trust = world.trust(**layers)

    async def script() -> float:
        began = trio.current_time()
        with pytest.raises(SecurityError, match=r"^10\.0\.0\.1 did not prove who it is within 5 s"):
            await trust.connect(world.dial)
        return trio.current_time() - began

    assert run(script) == pytest.approx(HANDSHAKE_S)
    assert [below.is_closed for below in world.dialled] == [True]


# Accepting


def test_all_keys_are_accepted(world: World) -> None:
    world.held["secret"] = [credential("new", SUBMIT), credential("old")]
    trust, below = world.trust(), FakeStream()
    stream, peer = run(lambda: trust.accept(below, NODE))
    assert world.shown == ["new", "old"]
    assert stream.below is below
    assert roles_of(peer) == {SUBMIT, OBSERVE}
    assert NODE.identity is None


def test_refusal_leaves_the_closing_to_the_caller(world: World) -> None:
    world.errors["key one"] = UnknownKey("not this one")
    trust, below = world.trust(), FakeStream()
    with pytest.raises(UnknownKey):
        run(lambda: trust.accept(below, NODE))
    assert not below.is_closed


# Open connections


def test_open_connections_ask_nobody(world: World) -> None:
    trust, below = world.trust(secret=OPEN), FakeStream()
    assert trust.is_open
    trust.require()
    assert (trust.load(), trust.describe()) == ([], "")
    stream, peer = run(lambda: trust.connect(world.dial))
    assert (stream, peer.identity) == (world.dialled[0], ANYBODY)
    assert roles_of(peer) == EVERYTHING
    assert run(lambda: trust.accept(below, NODE)) == (below, peer)
    assert world.loads == []


def test_open_connections_to_the_whole_world_are_refused(world: World) -> None:
    trust, below = world.trust(secret=OPEN), FakeStream()
    public = Peer("8.8.8.8", is_local=False)

    async def dial() -> Connection:
        await trio.lowlevel.checkpoint()
        return below, public

    with pytest.raises(SecurityError, match=r"8\.8\.8\.8 is a public address, and secret=dispy\.OPEN would"):
        run(lambda: trust.connect(dial))
    assert below.is_closed
    with pytest.raises(SecurityError, match=r"8\.8\.8\.8 is a public address, and --open would"):
        run(lambda: trust.accept(FakeStream(), public))


@pytest.mark.parametrize("host", ["8.8.8.8", "2a00::1", "::ffff:8.8.8.8", "2a00::1%eth0"])
def test_public_addresses_are_known(host: str) -> None:
    with pytest.raises(SecurityError, match="use a key, or use an ssh tunnel"):
        refuse_public(host, "--open")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "::1", "10.1.2.3", "::ffff:10.1.2.3", "fe80::1%eth0", "0.0.0.0", "::", "/run/node", "name"],
)
def test_other_addresses_may_be_open(host: str) -> None:
    refuse_public(host, "--open")


# Credentials


def test_credentials_are_asked_for_again_when_they_are_old(world: World) -> None:
    trust = world.trust()
    assert run(lambda: trust.connect(world.dial))[1].identity.name == "peer with key one"
    world.held["secret"] = [credential("key two")]
    world.now += FRESH_S * 0.9
    assert run(lambda: trust.connect(world.dial))[1].identity.name == "peer with key one"
    assert len(world.loads) == 1
    world.now += FRESH_S * 0.2
    assert run(lambda: trust.connect(world.dial))[1].identity.name == "peer with key two"
    assert run(lambda: trust.accept(FakeStream(), NODE))[1].identity.name == "peer with key two"
    assert len(world.loads) == 2


def test_credential_that_expires_is_renewed_before_it_is_old(world: World) -> None:
    world.held["secret"] = [credential("short", renew_at=world.now + 1)]
    trust = world.trust()
    assert trust.describe() == "short"
    world.held["secret"] = [credential("next")]
    assert trust.describe() == "short"
    world.now += 1
    assert trust.describe() == "next"


def test_what_is_wrong_with_credentials_is_told_and_closes_the_connection(world: World) -> None:
    del world.held["secret"]
    trust = world.trust()
    with pytest.raises(KeyError):
        trust.load()
    with pytest.raises(KeyError):
        run(lambda: trust.connect(world.dial))
    assert [below.is_closed for below in world.dialled] == [True]


def test_bad_reload_does_not_go_on_with_old_credentials(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = world.trust()
    trust.load()
    world.now += FRESH_S

    def fails(self: Credentials, request: SecurityRequest) -> Sequence[Credential]:
        raise CredentialsError("others can read the key file")

    monkeypatch.setattr(type(world.plugins.credentials("secret")), "load", fails)
    with pytest.raises(CredentialsError, match="others can read"):
        run(lambda: trust.accept(FakeStream(), NODE))


def test_credentials_are_loaded_here_while_the_interpreter_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run_sync(*args: object) -> object:
        await trio.lowlevel.checkpoint()
        raise error

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
    error = RuntimeError("can't create new thread at interpreter shutdown")
    assert connect(world)[1].identity is not None
    error = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        connect(world)


def test_what_is_missing_is_told_with_its_remedy() -> None:
    bare = TrustStore(PluginManager.load([], entry_points=[]))
    for parameters in ({}, {"secret": "x"}, {"certfile": "c"}):
        trust = bare.get(make_request(ADMIN, **parameters))  # type: ignore[arg-type]
        with pytest.raises(PluginNotInstalled, match=r"pip install 'dispy-core\[ssl\]'"):
            trust.require()
    bare.get(OPEN).require()


def test_requiring_reads_nothing(world: World) -> None:
    world.trust(secret="x", certfile="c").require()
    assert world.loads == []


# What the user says


@pytest.mark.parametrize(
    ("parameters", "sources", "explicit"),
    [
        ({}, ["secret"], False),
        ({"secret": ""}, ["secret"], False),
        ({"secret": "x"}, ["secret"], True),
        ({"secret_file": "f"}, ["secret"], True),
        ({"certfile": "c"}, ["certificate"], True),
        ({"certfile": "c", "keyfile": "k", "cafile": "a"}, ["certificate"], True),
        ({"certfile": "c", "secret": "x"}, ["certificate", "secret"], True),
        ({"certfile": "c", "secret_file": "f"}, ["certificate", "secret"], True),
        ({"secret": OPEN}, [], False),
    ],
)
def test_what_is_given_decides_what_is_asked(
    world: World, parameters: dict[str, Any], sources: list[str], explicit: bool
) -> None:
    trust = world.trust(**parameters)
    trust.load()
    assert [name for name, _request in world.loads] == sources
    assert (trust.is_explicit, trust.is_open) == (explicit, not sources)


def test_request_holds_full_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    request = make_request(SUBMIT, secret_file="f", certfile="~/c.pem", keyfile=Path("/k.pem"), cafile="")
    assert request == SecurityRequest(
        SUBMIT, None, os.path.join(tmp_path, "f"), certfile="/home/me/c.pem", keyfile="/k.pem"
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"secret": "x", "secret_file": "f"}, "secret and secret_file exclude each other: leave one"),
        ({"secret": OPEN, "secret_file": "f"}, "open connections and secret_file exclude each other"),
        ({"secret": OPEN, "certfile": "c"}, "open connections and certfile exclude each other"),
        ({"keyfile": "k"}, "keyfile is of no use without certfile"),
        ({"cafile": "a", "secret": "x"}, "cafile is of no use without certfile"),
        ({"secret": b"bytes"}, r"secret must be text, or dispy\.OPEN, not bytes"),
        ({"secret": False}, r"secret must be text, or dispy\.OPEN, not bool"),
    ],
)
def test_contradictions_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_request(ADMIN, **parameters)


def test_secrets_are_in_no_message(world: World) -> None:
    request = make_request(ADMIN, secret="hush")
    trust = TrustStore(world.plugins).get(request)
    assert "hush" not in f"{request!r} {trust!r} {trust._layers!r}"


def test_equal_requests_have_one_realm(world: World) -> None:
    store = TrustStore(world.plugins)
    said: list[dict[str, Any]] = [{}, {"secret": "x"}, {"secret": "y"}, {"certfile": "/c"}, {"secret": OPEN}]
    trusts = [store.get(make_request(ADMIN, **parameters)) for parameters in said]
    assert [store.get(make_request(ADMIN, **parameters)) for parameters in said] == trusts
    realms = [trust.realm for trust in trusts]
    assert all(realms)
    assert len(set(realms)) == len(said)
    assert realms[-1] == OPEN_REALM


def test_certificate_for_something_else_is_found_before_it_is_shown() -> None:
    world = World()
    world.held["secret"] = [replace(credential("mine"), roles=frozenset({AccessRole.OBSERVE}))]
    trust = world.trust()
    trust.check_role(AccessRole.OBSERVE)
    with pytest.raises(CredentialsError, match="mine is for observe, and the role submit is needed"):
        trust.check_role(AccessRole.SUBMIT)


def test_roles_that_nobody_tells_are_not_judged() -> None:
    world = World()
    world.held["secret"] = [credential("mine")]
    world.trust().check_role(AccessRole.NODE)


def test_discovery_keys_are_those_of_all_credentials_that_have_one(world: World) -> None:
    world.held["secret"] = [
        replace(credential(name), discovery_key=key)
        for name, key in (("new", b"n" * 32), ("old", b"o" * 32), ("none", b""))
    ]
    trust = world.trust()
    assert run(trust.discovery_keys) == DiscoveryKeys(keys=(b"n" * 32, b"o" * 32))
    trust = world.trust(certfile="cert.pem")
    assert run(trust.discovery_keys) == DiscoveryKeys()


def test_open_operation_has_no_discovery_key(world: World) -> None:
    assert run(world.trust(secret=OPEN).discovery_keys) == DiscoveryKeys(is_open=True)
    assert world.loads == []
