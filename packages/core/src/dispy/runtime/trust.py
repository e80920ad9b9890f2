"""Whom a participant accepts at the other end of a connection, and how it proves who it is itself.

A `Trust` is made from what the user said: a shared key (the default), certificates, both, or nothing at all, which
has to be spelled out. What it gives back is a stream that nobody else can read, and a peer with its roles.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import trio

from dispy.discovery import DiscoveryKeys
from dispy.errors import CredentialsError, SecurityError, UnknownKey, UsageError
from dispy.interfaces import Credential, Credentials, Identity, Peer, SecurityRequest, StreamSecurity
from dispy.model import OPEN, AccessRole, Openness
from dispy.plugins import PluginManager
from dispy.wire.messages import Hello
from dispy.wire.owner import Owner, make_proof
from dispy.wire.rights import EVERYTHING, STREAMING, expand

Connection = tuple[trio.abc.Stream, Peer]
_Step = Callable[[trio.abc.Stream], Awaitable[tuple[trio.abc.Stream, Identity]]]

HANDSHAKE_S = 5.0
"""How long both sides together may take to prove who they are."""

FRESH_S = 5.0
"""How long credentials are used before they are asked for again: a key that was added counts soon, everywhere."""

SECURITY = "ssl"
"""Name of the plugin that secures streams."""

ANYBODY = Identity("anybody: the connection is open", EVERYTHING)
"""Who a peer is that was not asked, because the user wanted it so."""

OWN_CHILD = Identity("a process of this program", EVERYTHING)
"""Who the other end of an inherited socket pair is."""

OPEN_REALM = "open"

OF_NODES = frozenset({AccessRole.NODE})
OF_CLIENTS = frozenset(AccessRole) - OF_NODES
"""Who is to be at the other end: nodes are dialled, clients are accepted."""


def roles_of(peer: Peer) -> frozenset[AccessRole]:
    """Return what a peer may do: nothing as long as nobody has asked who it is."""
    return frozenset() if peer.identity is None else peer.identity.roles


def proof_to(peer: Peer, secret: bytes) -> bytes:
    """Return what shows to a peer, on every link to it, that we are the one who has *secret*."""
    return make_proof(secret, "" if peer.identity is None else peer.identity.key)


def owner_of(peer: Peer, hello: Hello) -> Owner:
    """Return whom what a peer brings belongs to."""
    subject = "" if peer.identity is None else peer.identity.subject
    may_act = not STREAMING.isdisjoint(expand(roles_of(peer)))
    return Owner(subject, hello.proof, may_act)


FilePath = str | os.PathLike[str] | None


def make_request(
    role: AccessRole,
    *,
    secret: str | Openness | None = None,
    secret_file: FilePath = None,
    certfile: FilePath = None,
    keyfile: FilePath = None,
    cafile: FilePath = None,
) -> SecurityRequest | Openness:
    """Put together what the user said; relative paths are of the present working directory.

    Raises:
        UsageError: one part contradicts another, is of no use without another, or is of a wrong type.
    """
    files = {"certfile": certfile, "keyfile": keyfile, "cafile": cafile}
    given = [name for name, value in files.items() if value]
    if isinstance(secret, Openness):
        if given or secret_file:
            raise UsageError(
                f"open connections and {(given or ['secret_file'])[0]} exclude each other: leave one of them out"
            )
        return OPEN
    if secret is not None and not isinstance(secret, str):
        raise UsageError(f"secret must be text, or dispy.OPEN, not {type(secret).__name__}")
    if secret and secret_file:
        raise UsageError("secret and secret_file exclude each other: leave one of them out")
    if given and not certfile:
        raise UsageError(f"{given[0]} is of no use without certfile: name the certificate too")
    paths = {name: os.path.abspath(os.path.expanduser(path)) if path else "" for name, path in files.items()}
    where = os.path.abspath(os.path.expanduser(secret_file)) if secret_file else ""
    return SecurityRequest(role, secret or None, where, **paths)


@dataclass(slots=True)
class _Layer:
    """One source of credentials, and what it has given last."""

    source: Callable[[], Credentials]
    request: SecurityRequest
    loaded: Sequence[Credential] = ()
    loaded_at: float = -float("inf")

    def is_fresh(self) -> bool:
        now = time.time()
        return time.monotonic() - self.loaded_at < FRESH_S and all(one.renew_at > now for one in self.loaded)

    def load(self) -> Sequence[Credential]:
        if not self.is_fresh():
            self.loaded = self.source().load(self.request)
            self.loaded_at = time.monotonic()
        return self.loaded


class Trust:
    """What one cluster, or one node, asks of everybody who connects.

    Attributes:
        realm: equal for equal requests in one process, and never empty; a cluster uses only nodes of its realm.
        is_open: nothing is asked of anybody.
        is_explicit: the user has named what is to be used, rather than relied on the default key.
    """

    def __init__(self, plugins: PluginManager, request: SecurityRequest | Openness, realm: str) -> None:
        self.realm = realm
        self._plugins = plugins
        self._layers: list[_Layer] = []
        self.is_explicit = False
        if isinstance(request, Openness):
            self.realm = OPEN_REALM
            return
        self.is_explicit = bool(request.secret or request.secret_file or request.certfile)
        if request.certfile:
            self._layers.append(_Layer(lambda: plugins.credentials("certificate"), request))
        if request.secret or request.secret_file or not request.certfile:
            self._layers.append(_Layer(lambda: plugins.credentials("secret"), request))

    def __repr__(self) -> str:
        return f"<Trust {self.realm}>"

    @property
    def is_open(self) -> bool:
        """True if nothing is asked of anybody."""
        return not self._layers

    def require(self) -> None:
        """Check that the plugins for it are installed.

        Raises:
            PluginNotInstalled: one is missing.
            PluginError: one cannot be used.
        """
        for layer in self._layers:
            layer.source()
        if self._layers:
            self._security()

    def load(self) -> list[Sequence[Credential]]:
        """Return the credentials of each layer; reads files and may take a second when they are due.

        Raises:
            CredentialsError: one cannot be read or used.
            PluginNotInstalled: a plugin is missing.
        """
        return [layer.load() for layer in self._layers]

    def check_role(self, role: AccessRole) -> None:
        """Check that our own certificates let us do what we are about to do, rather than be refused everywhere.

        Raises:
            CredentialsError: one does not; or as `load`.
        """
        for credential in (one for credentials in self.load() for one in credentials):
            if credential.roles and role not in expand(credential.roles):
                roles = ", ".join(sorted(credential.roles))
                raise CredentialsError(
                    f"{credential.name} is for {roles}, and the role {role} is needed: name one that was issued with "
                    f"`dispy cert issue NAME --role {role}`"
                )

    def describe(self) -> str:
        """Tell what both sides have to have, for people; raises as `load` does."""
        return " and ".join(" or ".join(one.name for one in credentials) for credentials in self.load())

    async def discovery_keys(self) -> DiscoveryKeys:
        """Return what those who look for each other on a network authenticate what they say with.

        Raises:
            CredentialsError, PluginNotInstalled: see `load`.
        """
        if self.is_open:
            return DiscoveryKeys(is_open=True)
        found = [one.discovery_key for credentials in await self._load() for one in credentials]
        return DiscoveryKeys(keys=tuple(filter(None, found)))

    def _security(self) -> StreamSecurity:
        return self._plugins.security(SECURITY)

    async def connect(self, dial: Callable[[], Awaitable[Connection]]) -> Connection:
        """Dial, and prove each side to the other; with several keys, dial once for each until one fits.

        Cancellation leaves nothing open.

        Raises:
            SecurityError: one side does not accept the other; the message says why, and what to do.
            TransportError: nobody answers.
            CredentialsError, PluginNotInstalled: see `load`.
        """
        last: UnknownKey | None = None
        stream, peer = await dial()
        try:
            if self.is_open:
                refuse_public(peer.host, "secret=dispy.OPEN")
                return stream, replace(peer, identity=ANYBODY)
            combinations = list(itertools.product(*await self._load()))
            prove = self._security().connect
            for number, combination in enumerate(combinations):
                if number:
                    await trio.aclose_forcefully(stream)
                    stream, peer = await dial()
                try:
                    return await _secure(
                        stream, peer, [partial(prove, credential=one, wants=OF_NODES) for one in combination]
                    )
                except UnknownKey as error:
                    last = error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        await trio.aclose_forcefully(stream)
        assert last is not None  # there is at least one combination
        raise last

    async def accept(self, stream: trio.abc.Stream, peer: Peer) -> Connection:
        """Have a peer that has connected prove who it is. The caller sets the limit of time, and closes *stream*.

        Raises:
            SecurityError: one side does not accept the other.
        """
        if self.is_open:
            refuse_public(peer.host, "--open")
            return stream, replace(peer, identity=ANYBODY)
        layers = await self._load()
        prove = self._security().accept
        return await _secure(
            stream, peer, [partial(prove, credentials=layer, wants=OF_CLIENTS) for layer in layers]
        )

    async def _load(self) -> list[Sequence[Credential]]:
        if all(layer.is_fresh() for layer in self._layers):
            return [layer.loaded for layer in self._layers]
        try:
            return await trio.to_thread.run_sync(self.load)
        except RuntimeError as error:
            if "thread" not in str(error):
                raise
            return self.load()  # while the interpreter ends no thread can be started


async def _secure(stream: trio.abc.Stream, peer: Peer, steps: Sequence[_Step]) -> Connection:
    """Wrap a stream once for each layer; the peer has the roles that all of them give it."""
    known: list[Identity] = []
    roles = EVERYTHING
    try:
        with trio.fail_after(HANDSHAKE_S):
            for step in steps:
                stream, identity = await step(stream)
                known.append(identity)
                roles &= expand(identity.roles)
    except trio.TooSlowError:
        raise SecurityError(
            f"{peer.host} did not prove who it is within {HANDSHAKE_S:g} s: is it a dispy?"
        ) from None
    identity = Identity(
        " and ".join(one.name for one in known),
        roles,
        subject=" ".join(one.subject for one in known if one.subject),
        key=" ".join(one.key for one in known if one.key),
        account=" and ".join(one.account for one in known if one.account),
    )
    return stream, replace(peer, identity=identity)


def refuse_public(host: str, option: str) -> None:
    """Refuse open connections from or to the whole world, whatever the user said.

    Raises:
        SecurityError: *host* is an address of the public internet.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return  # a name, or an address of another kind of transport
    mapped = getattr(address, "ipv4_mapped", None)  # how a socket for both kinds shows an IPv4 address
    if (mapped or address).is_global:
        raise SecurityError(
            f"{host} is a public address, and {option} would let anybody there run programs: "
            "leave it out and use a key, or use an ssh tunnel"
        )


class TrustStore:
    """The trusts of a process: equal requests get the same one, so that clusters share connections."""

    def __init__(self, plugins: PluginManager) -> None:
        self._plugins = plugins
        self._known: dict[SecurityRequest | Openness, Trust] = {}

    def get(self, request: SecurityRequest | Openness) -> Trust:
        """Return the trust for a request; nothing is read yet."""
        trust = self._known.get(request)
        if trust is None:
            realm = f"realm-{len(self._known) + 1}"
            trust = self._known[request] = Trust(self._plugins, request, realm)
        return trust
