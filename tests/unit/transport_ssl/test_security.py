"""Handshakes: who gets in, who does not, and what both sides say about it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from dispy.errors import CredentialsError, DispyError, SecurityError, UnknownKey
from dispy.interfaces import Identity
from dispy.model import AccessRole
from dispy.wire.frames import PREFACE
from dispy_testing.contracts import check_security
from dispy_transport_ssl.security import REASON_BYTES, SslSecurity, identify
from dispy_transport_ssl.streams import HANDSHAKE_BYTES

NODE, SUBMIT, OPERATE, ADMIN = AccessRole.NODE, AccessRole.SUBMIT, AccessRole.OPERATE, AccessRole.ADMIN


def tell_both(errors: tuple[DispyError, DispyError], client: str, server: str) -> None:
    """Check that both sides give the reason, in the same kind of error."""
    assert client in str(errors[0])
    assert server in str(errors[1])
    assert type(errors[0]) is type(errors[1])
    assert isinstance(errors[0], SecurityError)


@pytest.mark.parametrize("keys", [(b"", b""), (b"1" * 32, b"2" * 32), (b"1" * 32, b"")])
def test_contract(world, keys: tuple[bytes, bytes]) -> None:
    trio.run(
        check_security,
        SslSecurity,
        world.credential("mary", SUBMIT, hint_key=keys[0]),
        world.credential("alpha", NODE, hint_key=keys[0]),
        world.credential("stranger", SUBMIT, NODE, hint_key=keys[1], authority=world.stranger),
        strict_exception_groups=True,
    )


class TestAccepted:
    @pytest.mark.parametrize("key", ["", "lab_key"])
    def test_both_know_each_other(self, world, tools, key: str) -> None:
        hint_key = getattr(world, key) if key else b""
        client = world.credential("mary", SUBMIT, OPERATE, hint_key=hint_key)
        node = world.credential("alpha", NODE, hint_key=hint_key)
        of_node, of_client = tools.shake_hands(client, node).identities()
        assert of_node.roles == {NODE}
        assert of_node.name.startswith("certificate 'alpha' (")
        assert of_client.roles == {SUBMIT, OPERATE}
        assert of_client.name.startswith("certificate 'mary' (")

    def test_each_key_is_matched_with_its_own_certificates(self, world, tools) -> None:
        first = world.credential("old", NODE, hint_key=world.lab_key)
        second = world.credential("new", NODE, hint_key=world.other_key, authority=world.stranger)
        mary = world.credential("mary", SUBMIT, hint_key=world.lab_key)
        fred = world.credential("fred", SUBMIT, hint_key=world.other_key, authority=world.stranger)
        for client, name in ((mary, "'old'"), (fred, "'new'")):
            of_node, _of_client = tools.shake_hands(client, first, second).identities()
            assert name in of_node.name

    def test_hint_alone_does_not_open(self, world, tools) -> None:
        first = world.credential("old", NODE, hint_key=world.lab_key)
        second = world.credential("new", NODE, hint_key=world.other_key, authority=world.stranger)
        thief = world.credential(
            "thief", SUBMIT, hint_key=world.other_key
        )  # of the authority of the other key
        tell_both(tools.shake_hands(thief, first, second).errors(), "no certificate of an", "does not trust")

    def test_credential_without_hint_serves_those_who_send_none(self, world, tools) -> None:
        keyed = world.credential("keyed", NODE, hint_key=world.lab_key)
        plain = world.credential("plain", NODE)
        of_node, _of_client = tools.shake_hands(world.credential("mary", SUBMIT), keyed, plain).identities()
        assert "'plain'" in of_node.name

    def test_data_go_both_ways(self, world, tools) -> None:
        async def main() -> None:
            done = await tools.shake(world.credential("mary", SUBMIT), world.credential("alpha", NODE))
            near, far = done.streams()
            await near.send_all(b"question")
            assert await far.receive_some() == b"question"
            await far.send_all(b"answer")
            assert await near.receive_some() == b"answer"
            assert not any(b"question" in data for data in done.to_server)

        trio.run(main, strict_exception_groups=True)

    def test_roles_for_certificates_that_tell_none(self, world, tools) -> None:
        roles = frozenset({NODE, ADMIN})
        node = world.credential("alpha", default_roles=roles)
        client = world.credential("mary", default_roles=roles)
        assert [each.roles for each in tools.shake_hands(client, node).identities()] == [roles, roles]
        told = world.credential("fred", SUBMIT, default_roles=roles)
        assert tools.shake_hands(told, node).identities()[1].roles == {SUBMIT}

    def test_cost_of_a_handshake(self, world, tools) -> None:
        """Both sides and the test together; it takes 3 to 5 ms on a machine of 2024."""

        async def main() -> float:
            client = world.credential("mary", SUBMIT, hint_key=world.lab_key)
            node = world.credential("alpha", NODE, hint_key=world.lab_key)
            best = float("inf")
            for _ in range(10):
                began = time.process_time()
                (await tools.shake(client, node)).identities()
                best = min(best, time.process_time() - began)
            return best

        assert trio.run(main, strict_exception_groups=True) < 0.05


class TestRefused:
    def test_another_key(self, world, tools) -> None:
        client = world.credential("mine", SUBMIT, hint_key=world.other_key)
        done = tools.shake_hands(client, world.credential("theirs", NODE, hint_key=world.lab_key))
        tell_both(done.errors(), "does not have ours, key mine", "has none of ours, key theirs")
        for error in done.errors():
            assert isinstance(error, UnknownKey)
            assert str(error).endswith("; give both sides the same")

    @pytest.mark.parametrize(("ours", "theirs"), [("lab_key", ""), ("", "lab_key")])
    def test_key_on_one_side_and_certificates_on_the_other(
        self, world, tools, ours: str, theirs: str
    ) -> None:
        keys = {"": b"", "lab_key": world.lab_key}
        client = world.credential("mine", SUBMIT, hint_key=keys[ours])
        errors = tools.shake_hands(client, world.credential("theirs", NODE, hint_key=keys[theirs])).errors()
        assert [type(error) for error in errors] == [UnknownKey, UnknownKey]
        assert "mine" in str(errors[0])
        assert "theirs" in str(errors[1])

    def test_stranger_sees_no_certificate(self, world, tools) -> None:
        """A node with keys answers a hint that is of none of them with an alert, and nothing else."""
        node = world.credential("alpha", NODE, hint_key=world.lab_key)

        stranger = world.credential("stranger", SUBMIT, hint_key=world.other_key)
        hello = tools.shake_hands(stranger, node).to_server[0]

        async def main() -> bytes:
            near, far = trio.testing.memory_stream_pair()
            await near.send_all(hello)
            with pytest.raises(UnknownKey):
                await SslSecurity().accept(far, [node], wants=frozenset(AccessRole))
            return bytes(await near.receive_some())

        assert trio.run(main, strict_exception_groups=True) == b"\x15\x03\x03\x00\x02\x02\x70"

    def test_another_authority_of_the_same_name(self, world, tools) -> None:
        client = world.credential("mary", SUBMIT, authority=world.stranger)
        done = tools.shake_hands(client, world.credential("alpha", NODE))
        tell_both(done.errors(), "no certificate of an authority that is trusted here", "does not trust")
        assert isinstance(done.errors()[0], UnknownKey)

    def test_client_of_another_authority_that_trusts_the_node(self, world, tools) -> None:
        """Only the node can tell: the client's handshake is over before the node has looked."""
        lab = world.credential("alpha", NODE)
        client = world.credential("mary", SUBMIT, authority=world.stranger)
        object.__setattr__(client, "authorities", lab.authorities)
        tell_both(
            tools.shake_hands(client, lab).errors(), "does not trust the authority", "no certificate of an"
        )

    @pytest.mark.parametrize(
        ("shift_days", "here", "there"),
        [
            (-9, "the certificate of the other side has expired", "our certificate has expired"),
            (9, "the certificate of the other side is not valid yet", "our certificate is not valid yet"),
        ],
    )
    def test_outside_its_time(self, world, tools, shift_days: int, here: str, there: str) -> None:
        now, then = (
            world.credential("now", SUBMIT, NODE),
            world.credential("then", NODE, shift_days=shift_days),
        )
        tell_both(tools.shake_hands(now, then).errors(), here, there)
        tell_both(tools.shake_hands(then, now).errors(), there, here)
        for error in tools.shake_hands(then, now).errors():
            assert "do the clocks of the two machines agree?" in str(error)

    def test_no_role(self, world, tools) -> None:
        nobody, node = world.credential("nobody"), world.credential("alpha", NODE)
        here = "the other side's certificate 'nobody' ("
        there = "the other side does not accept us: certificate 'nobody' ("
        tell_both(tools.shake_hands(nobody, node).errors(), there, here)
        tell_both(tools.shake_hands(node, nobody).errors(), here, there)
        for error in tools.shake_hands(nobody, node).errors():
            assert str(error).endswith("tells no dispy role: issue one with `dispy cert issue`")

    def test_credential_that_openssl_does_not_take(self, world) -> None:
        broken = world.credential("broken", NODE)
        object.__setattr__(broken, "key", b"")

        async def both() -> None:
            security, stream = SslSecurity(), trio.testing.memory_stream_pair()[0]
            with pytest.raises(CredentialsError, match="certificate broken"):
                await security.connect(stream, broken, wants=frozenset(AccessRole))
            with pytest.raises(CredentialsError, match="certificate broken"):
                await security.accept(stream, [broken], wants=frozenset(AccessRole))

        trio.run(both)


def foreign_client(world, adapt: Callable[[ssl.SSLContext], None]) -> DispyError:
    """Let a client with a context of its own meet a node; give what the node raises."""

    async def main() -> DispyError:
        near, far = trio.testing.memory_stream_pair()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        adapt(context)
        tls = trio.SSLStream(near, context)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(shake_off, tls)
                with pytest.raises(DispyError) as caught:
                    await SslSecurity().accept(
                        far, [world.credential("alpha", NODE)], wants=frozenset(AccessRole)
                    )
                await trio.aclose_forcefully(far)
        return caught.value

    async def shake_off(tls: trio.SSLStream[trio.abc.Stream]) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await tls.do_handshake()
            await tls.receive_some()

    return trio.run(main, strict_exception_groups=True)


class TestForeigners:
    def test_client_without_certificate(self, world) -> None:
        error = foreign_client(world, lambda context: None)
        assert isinstance(error, SecurityError)
        assert "showed no certificate" in str(error)

    def test_older_tls(self, world) -> None:
        def adapt(context: ssl.SSLContext) -> None:
            context.maximum_version = ssl.TLSVersion.TLSv1_2

        error = foreign_client(world, adapt)
        assert isinstance(error, SecurityError)
        assert "does not speak TLS 1.3" in str(error)

    def test_plain_dispy(self, world, tools) -> None:
        ours = [world.credential("alpha", NODE)]
        server = tools.alone("server", ours, PREFACE + bytes(20))
        assert "is open (plain)" in str(server)
        assert "start this side with --open" in str(server)
        client = tools.alone("client", ours, PREFACE + bytes(20))
        assert "is open (plain)" in str(client)
        assert "start it without --open, or pass secret=dispy.OPEN" in str(client)
        assert isinstance(client, SecurityError)

    @pytest.mark.parametrize("side", ["client", "server"])
    @pytest.mark.parametrize(
        "said", [b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n", bytes(99), b"\xff" * 99]
    )
    def test_other_protocols(self, world, tools, side: str, said: bytes) -> None:
        error = tools.alone(side, [world.credential("alpha", NODE)], said)
        assert isinstance(error, SecurityError)
        assert repr(said[:8]) in str(error)

    @pytest.mark.parametrize("side", ["client", "server"])
    @given(said=st.binary(max_size=300))
    def test_garbage(self, world, tools, side: str, said: bytes) -> None:
        credentials = [world.credential("alpha", NODE, hint_key=world.lab_key)]
        for beginning in (b"", b"\x16\x03\x01\x01\x00", b"\x16\x03\x03\x00\x20\x01\x00\x00\x1c"):
            assert isinstance(tools.alone(side, credentials, beginning + said), SecurityError)

    @pytest.mark.parametrize("side", ["client", "server"])
    def test_end_before_anything(self, world, tools, side: str) -> None:
        error = tools.alone(side, [world.credential("alpha", NODE)], b"")
        assert isinstance(error, SecurityError)
        assert "closed the connection during the handshake" in str(error)

    def test_too_much(self, world, tools) -> None:
        """Messages that never become complete are not gathered for ever."""
        record = b"\x16\x03\x01\x40\x00" + b"\x01\x01\xf0\x00" + bytes(0x4000 - 4)
        said = record + (b"\x16\x03\x01\x40\x00" + bytes(0x4000)) * (2 * HANDSHAKE_BYTES // 0x4000)
        error = tools.alone("server", [world.credential("alpha", NODE)], said, closes=False)
        assert isinstance(error, SecurityError)

    def test_recorded_session_is_refused(self, world, tools) -> None:
        client = world.credential("mary", SUBMIT, hint_key=world.lab_key)
        node = world.credential("alpha", NODE, hint_key=world.lab_key)
        done = tools.shake_hands(client, node)
        done.identities()
        assert len(done.to_server) > 1
        error = tools.alone("server", [node], b"".join(done.to_server), closes=False)
        assert isinstance(error, SecurityError)
        assert not isinstance(error, UnknownKey)

    def test_server_name_that_is_no_text(self, world, tools, capfd: pytest.CaptureFixture[str]) -> None:
        node = world.credential("alpha", NODE, hint_key=world.lab_key)
        client = world.credential("mary", SUBMIT, hint_key=world.lab_key)
        hello = tools.shake_hands(client, node).to_server[0].replace(b".dispy", b".disp\xff")
        assert isinstance(tools.alone("server", [node], hello), UnknownKey)
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("kept", [0, 1])
    def test_end_in_the_handshake(self, world, tools, kept: int) -> None:
        node = world.credential("alpha", NODE)
        done = tools.shake_hands(world.credential("mary", SUBMIT), node)
        error = tools.alone("server", [node], b"".join(done.to_server[:kept]))
        assert "closed the connection during the handshake" in str(error)

    @given(st.data())
    def test_flipped_bits_are_refused(self, world, tools, data: st.DataObject) -> None:
        """Every bit of the client's first message counts; what follows is not the same twice anyway."""
        node = world.credential("alpha", NODE, hint_key=world.lab_key)
        hello = tools.shake_hands(world.credential("mary", SUBMIT, hint_key=world.lab_key), node).to_server[0]
        place = data.draw(st.integers(0, 8 * len(hello) - 1))
        changed = bytearray(hello)
        changed[place // 8] ^= 1 << place % 8
        assert isinstance(tools.alone("server", [node], bytes(changed)), SecurityError)


class TestVerdicts:
    """What a peer says that has a good certificate, and is no dispy or a wicked one."""

    def hear(self, world, said: bytes) -> DispyError:
        async def main() -> DispyError:
            near, far = trio.testing.memory_stream_pair()
            node = world.credential("alpha", NODE)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            self.load(context, node)
            tls = trio.SSLStream(far, context, server_side=True)

            async def speak() -> None:
                await tls.send_all(said)
                await tls.aclose()

            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(speak)
                    with pytest.raises(DispyError) as caught:
                        await SslSecurity().connect(
                            near, world.credential("mary", SUBMIT), wants=frozenset(AccessRole)
                        )
            return caught.value

        return trio.run(main, strict_exception_groups=True)

    def load(self, context: ssl.SSLContext, credential) -> None:
        import tempfile

        with tempfile.NamedTemporaryFile() as file:
            file.write(credential.chain + credential.key)
            file.flush()
            context.load_cert_chain(file.name)

    def test_reason_is_shown_as_text_only(self, world) -> None:
        error = self.hear(world, b"-\x09no \x1b[31m\n")
        assert str(error) == "the other side does not accept us: no ?[31m "

    def test_reason_cut_short(self, world) -> None:
        assert str(self.hear(world, b"-\x64because")).endswith("us: because")
        assert isinstance(self.hear(world, b"-"), SecurityError)

    def test_something_else(self, world) -> None:
        assert "is no dispy" in str(self.hear(world, b"HTTP/1.1 400"))

    def test_nothing(self, world) -> None:
        assert "closed the connection during the handshake" in str(self.hear(world, b""))


def test_reason_that_is_told_fits(world) -> None:
    nobody = world.credential("\u00e4" * 32)
    with pytest.raises(SecurityError) as caught:
        identify(ssl.PEM_cert_to_DER_cert(nobody.chain.decode()), nobody, frozenset(AccessRole))
    assert len(str(caught.value).encode()) <= REASON_BYTES


def test_identity_is_that_of_the_certificate(world) -> None:
    mary = world.credential("mary", SUBMIT)
    der = ssl.PEM_cert_to_DER_cert(mary.chain.decode())
    found = identify(der, world.credential("x", default_roles=frozenset({ADMIN})), frozenset(AccessRole))
    assert isinstance(found, Identity)
    assert found.roles == {SUBMIT}
    with pytest.raises(SecurityError, match="cannot be read"):
        identify(der[:-5], mary, frozenset(AccessRole))


def test_cancelling_leaves_nothing_behind(world) -> None:
    async def main() -> None:
        near, _far = trio.testing.memory_stream_pair()
        with trio.move_on_after(1) as scope:
            await SslSecurity().accept(near, [world.credential("alpha", NODE)], wants=frozenset(AccessRole))
        assert scope.cancelled_caught
        await trio.aclose_forcefully(near)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0), strict_exception_groups=True)


def test_certificate_for_something_else_is_refused_by_either(world) -> None:
    """A certificate of a client does not make a node, nor the other way round."""
    client, node = world.credential("mary", SUBMIT), world.credential("alpha", NODE)
    der = ssl.PEM_cert_to_DER_cert(client.chain.decode())
    with pytest.raises(SecurityError, match="'mary'.* is for submit, and here it has to be for node"):
        identify(der, node, frozenset({NODE}))
    der = ssl.PEM_cert_to_DER_cert(node.chain.decode())
    assert identify(der, node, frozenset({NODE})).roles == {NODE}


class TestWhoItIs:
    """What binds an ident to its owner: whom an authority names, or the key of a process."""

    def identity(self, shown, own) -> Identity:
        return identify(ssl.PEM_cert_to_DER_cert(shown.chain.decode()), own, frozenset(AccessRole))

    def test_certificates_of_an_authority_name_somebody(self, world) -> None:
        own = world.credential("alpha", NODE)
        mary = self.identity(world.credential("mary", SUBMIT), own)
        assert mary.subject
        assert not mary.key
        assert self.identity(world.credential("mary", OPERATE), own).subject == mary.subject, "a renewed one"
        assert self.identity(world.credential("fred", SUBMIT), own).subject != mary.subject
        namesake = world.credential("mary", SUBMIT, authority=world.stranger)
        assert self.identity(namesake, own).subject != mary.subject

    def test_who_has_the_key_names_itself_as_it_likes(self, world) -> None:
        own = world.credential("alpha", NODE, hint_key=world.lab_key)
        mary = world.credential("mary", SUBMIT, hint_key=world.lab_key)
        first, other = (self.identity(one, own) for one in (mary, world.credential("mary", SUBMIT)))
        assert not first.subject
        assert first.key
        assert first.key == self.identity(mary, own).key
        assert first.key != other.key

    def test_files_that_stay_are_theirs_who_share_a_key_or_a_subject(self, world) -> None:
        mary = self.identity(world.credential("mary", SUBMIT), world.credential("alpha", NODE))
        assert mary.account == mary.subject
        own = world.credential("alpha", NODE, hint_key=world.lab_key)
        accounts = {self.identity(world.credential(name, SUBMIT), own).account for name in ("mary", "fred")}
        assert accounts == {own.name}

    def test_one_pair_for_all_tells_nobody_apart(self, world) -> None:
        own = world.credential("all", default_roles=frozenset({NODE, ADMIN}))
        found = self.identity(own, own)
        assert (found.subject, found.key, found.account) == ("", "", own.name)
