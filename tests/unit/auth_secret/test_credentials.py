"""Where a secret is looked for, and that equal credentials are the same object."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest
import trio

from dispy.errors import CredentialsError
from dispy.interfaces import SecurityRequest
from dispy.model import AccessRole
from dispy_auth_secret import credentials
from dispy_auth_secret.credentials import SecretCredentials, _PassedSecret, find_keys, keys_of_file
from dispy_auth_secret.keyfile import key_path, load_keys, new_key
from dispy_auth_secret.keys import Key, key_of_secret
from dispy_testing.contracts import check_credentials
from dispy_transport_ssl.security import SslSecurity

KEYS = [Key(bytes([number] * 32)) for number in range(5)]
PASSPHRASE = "correct horse battery staple"


def request(
    secret: str | None = None, secret_file: str = "", role: AccessRole = AccessRole.NODE
) -> SecurityRequest:
    return SecurityRequest(role, secret=secret, secret_file=secret_file)


def put(path: Path, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return str(path)


def pass_on(monkeypatch: pytest.MonkeyPatch, data: bytes) -> int:
    """Put something into a pipe and its number into the environment, as a parent process does."""
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    monkeypatch.setenv("DISPY_SECRET_FD", str(reading))
    return reading


@pytest.mark.parametrize("source", ["key", "passphrase", "file", "key file"])
def test_contract(tmp_path: Path, source: str) -> None:
    new_key(), new_key()  # two in the key file
    several = put(tmp_path / "several", "".join(f"{key.text}\n" for key in KEYS))
    seen = tmp_path / "seen"
    put(seen, KEYS[0].text)
    seen.chmod(0o644)
    good = {
        "key": request(KEYS[0].text),
        "passphrase": request(PASSPHRASE),
        "file": request(secret_file=several),
        "key file": request(),
    }
    bad = [
        request(secret=KEYS[0].text[:-1]),
        request(secret_file=str(tmp_path / "missing")),
        request(secret_file=str(tmp_path)),
        request(secret_file=put(tmp_path / "empty", "")),
        request(secret_file=put(tmp_path / "lines", "neither key\nnor passphrase\n")),
        request(secret_file=str(seen)),
    ]
    trio.run(
        check_credentials, SecretCredentials, SslSecurity, good[source], bad, strict_exception_groups=True
    )


def test_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own,) = load_keys()
    assert found_keys(request()) == [own]
    pass_on(monkeypatch, KEYS[3].text.encode())
    assert found_keys(request()) == [KEYS[3]]
    monkeypatch.setenv("DISPY_SECRET", KEYS[2].text)
    assert found_keys(request()) == [KEYS[2]]
    path = put(tmp_path / "file", KEYS[1].text)
    assert found_keys(request(secret_file=path)) == [KEYS[1]]
    assert found_keys(request(secret=KEYS[0].text, secret_file=path)) == [KEYS[0]]


def test_empty_texts_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPY_SECRET", "")
    monkeypatch.setenv("DISPY_SECRET_FD", "")
    assert found_keys(request(secret="")) == load_keys()


def test_key_file_is_not_made_if_it_is_not_needed(config: Path) -> None:
    found_keys(request(secret=PASSPHRASE))
    assert not config.exists()


def test_environment_of_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPY_SECRET", PASSPHRASE)
    assert found_keys(request()) == found_keys(request()) == [key_of_secret(PASSPHRASE)]
    assert os.environ["DISPY_SECRET"] == PASSPHRASE


class TestFile:
    @pytest.mark.parametrize(
        "text", [PASSPHRASE, f"{PASSPHRASE}\n", f"{PASSPHRASE}\r\n", f"\n{PASSPHRASE}\n\n"]
    )
    def test_may_hold_a_passphrase(self, tmp_path: Path, text: str) -> None:
        assert found_keys(request(secret_file=put(tmp_path / "file", text))) == [key_of_secret(PASSPHRASE)]

    def test_may_hold_several_keys(self, tmp_path: Path) -> None:
        path = put(tmp_path / "file", f"# mine\n{KEYS[1].text}\n{KEYS[0].text}\n")
        assert found_keys(request(secret_file=path)) == [KEYS[1], KEYS[0]]

    def test_passphrase_may_begin_like_a_comment_or_be_no_text(self) -> None:
        assert keys_of_file(b"#hash and more\n", "it") == [key_of_secret("#hash and more")]
        data = b"\xff\xfe passphrase"
        assert keys_of_file(data, "it") == [key_of_secret(os.fsdecode(data))]

    def test_may_be_below_the_home_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        put(tmp_path / "file", KEYS[0].text)
        assert found_keys(request(secret_file="~/file")) == [KEYS[0]]

    def test_must_be_private(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        put(path, PASSPHRASE)
        path.chmod(0o644)
        with pytest.raises(CredentialsError, match=f"; run: chmod 600 {path}$"):
            found_keys(request(secret_file=str(path)))

    def test_that_is_missing_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(CredentialsError, match="nothing': No such file or directory"):
            found_keys(request(secret_file=str(tmp_path / "nothing")))

    @pytest.mark.parametrize("text", ["", "\n\n"])
    def test_that_is_empty_is_told(self, tmp_path: Path, text: str) -> None:
        path = put(tmp_path / "file", text)
        with pytest.raises(
            CredentialsError, match=f"^the file '{path}' is empty; write a key or a passphrase"
        ):
            found_keys(request(secret_file=path))

    def test_with_several_lines_that_are_no_keys_is_told(self, tmp_path: Path) -> None:
        path = put(tmp_path / "file", "first\nsecond\n")
        with pytest.raises(
            CredentialsError, match="holds neither keys nor a passphrase; write .* on one line$"
        ) as got:
            found_keys(request(secret_file=path))
        assert "first" not in str(got.value)

    def test_with_a_key_that_was_not_copied_exactly_is_told(self, tmp_path: Path) -> None:
        path = put(tmp_path / "file", KEYS[0].text + "a")
        with pytest.raises(
            CredentialsError, match=f"^line 1 of the file '{path}': the key was not copied exactly"
        ):
            found_keys(request(secret_file=path))


class TestDescriptor:
    def test_is_read_once_and_closed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        number = pass_on(monkeypatch, f"{PASSPHRASE}\n".encode())
        assert found_keys(request()) == [key_of_secret(PASSPHRASE)]
        assert "DISPY_SECRET_FD" not in os.environ
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
        assert found_keys(request()) == [key_of_secret(PASSPHRASE)]

    def test_threads_that_come_at_once_all_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pass_on(monkeypatch, KEYS[0].text.encode())
        start = threading.Barrier(4)
        found: list[list[Key]] = []

        def look() -> None:
            start.wait(10)
            found.append(found_keys(request()))

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert found == [[KEYS[0]]] * 4

    @pytest.mark.parametrize("value", ["hush-hush", "-1", "99999", "3.5"])
    def test_must_be_one_and_is_not_shown(self, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        monkeypatch.setenv("DISPY_SECRET_FD", value)
        with pytest.raises(
            CredentialsError, match="^DISPY_SECRET_FD is not the number of a descriptor"
        ) as caught:
            found_keys(request())
        assert value not in str(caught.value)
        assert caught.value.__suppress_context__

    @pytest.mark.parametrize("data", [b"", b"\n", b"x" * 65537], ids=["empty", "blank", "large"])
    def test_must_lead_to_a_secret(
        self, monkeypatch: pytest.MonkeyPatch, data: bytes, tmp_path: Path, config: Path
    ) -> None:
        number = os.open(put(tmp_path / "file", data), os.O_RDONLY)
        monkeypatch.setenv("DISPY_SECRET_FD", str(number))
        with pytest.raises(
            CredentialsError, match="leads to is empty or larger than 65536 bytes; write a key"
        ):
            found_keys(request())
        assert not config.exists()


def found_keys(request: SecurityRequest) -> list[Key]:
    return find_keys(request)[0]


def test_credential_tells_where_it_is_from_and_what_helps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = put(tmp_path / "file", KEYS[1].text.encode())
    told = {}
    for name, asked, variable in (
        ("key file", request(), ""),
        ("variable", request(), KEYS[2].text),
        ("file", request(secret_file=path), KEYS[2].text),
        ("given", request(KEYS[0].text), KEYS[2].text),
    ):
        monkeypatch.setenv("DISPY_SECRET", variable)
        told[name] = SecretCredentials().load(asked)[0]
    assert told["key file"].source == f"the key file {str(key_path())!r}"
    assert "`dispy key show` there" in told["key file"].remedy
    assert told["variable"].source == "DISPY_SECRET"
    assert told["variable"].remedy.startswith("set DISPY_SECRET to the same on both sides, or unset it")
    assert told["file"].source == f"the file {str(path)!r}"
    assert told["file"].remedy.startswith("copy that file")
    assert told["given"].source == "secret= or -s"
    assert "dispy key" not in told["given"].remedy


def test_secret_from_a_descriptor_is_told_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("dispy_auth_secret.credentials._passed_secret", _PassedSecret())
    number = os.open(put(tmp_path / "file", KEYS[0].text.encode()), os.O_RDONLY)
    monkeypatch.setenv("DISPY_SECRET_FD", str(number))
    (found,) = SecretCredentials().load(request())
    assert found.source == "what DISPY_SECRET_FD leads to"
    assert "unset DISPY_SECRET_FD" in found.remedy


def test_same_key_from_elsewhere_is_told_anew(tmp_path: Path) -> None:
    source = SecretCredentials()
    path = put(tmp_path / "file", KEYS[0].text.encode())
    (given,), (of_file,) = source.load(request(KEYS[0].text)), source.load(request(secret_file=path))
    assert given.source != of_file.source
    assert given.key == of_file.key
    assert given.authorities == of_file.authorities


class TestLoading:
    def test_gives_one_credential_for_each_key(self) -> None:
        (old,) = load_keys()
        new = new_key()
        found = SecretCredentials().load(request())
        assert [one.name for one in found] == [f"key {new.fingerprint}", f"key {old.fingerprint}"]

    def test_gives_the_same_objects_until_they_are_to_be_renewed(self) -> None:
        now = 1_800_000_000.0
        source = SecretCredentials(clock=lambda: now)
        (first,) = source.load(request(KEYS[0].text))
        now = first.renew_at - 1
        assert source.load(request(KEYS[0].text))[0] is first
        now = first.renew_at
        (second,) = source.load(request(KEYS[0].text))
        assert second is not first
        assert second.renew_at > now
        assert source.load(request(KEYS[0].text))[0] is second

    def test_process_keeps_its_private_key(self) -> None:
        """By it others know it again, when its certificate is renewed and when the shared key is changed."""
        now = 1_800_000_000.0
        source = SecretCredentials(clock=lambda: now)
        (first,) = source.load(request(KEYS[0].text))
        now = first.renew_at
        (renewed,) = source.load(request(KEYS[0].text))
        (changed,) = source.load(request(KEYS[1].text))
        assert first.key == renewed.key == changed.key
        assert len({first.chain, renewed.chain, changed.chain}) == 3
        assert SecretCredentials().load(request(KEYS[0].text))[0].key != first.key

    def test_role_and_key_make_a_difference(self) -> None:
        source = SecretCredentials()
        one, other, third = (
            source.load(request(key.text, role=role))[0]
            for key, role in [
                (KEYS[0], AccessRole.NODE),
                (KEYS[0], AccessRole.ADMIN),
                (KEYS[1], AccessRole.NODE),
            ]
        )
        assert len({id(one), id(other), id(third)}) == 3
        assert one.authorities == other.authorities != third.authorities

    def test_change_in_the_key_file_is_seen(self) -> None:
        source = SecretCredentials()
        (old,) = source.load(request())
        new_key()
        first, second = source.load(request())
        assert first is not old
        assert second is old

    def test_name_of_the_host_is_in_the_certificate(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from cryptography import x509

        monkeypatch.setattr(credentials.socket, "gethostname", lambda: "node7")
        (found,) = SecretCredentials().load(request())
        assert x509.load_pem_x509_certificate(found.chain).subject.rfc4514_string() == "CN=node7"


def test_secret_is_shown_nowhere(warnings: io.StringIO, capfd: pytest.CaptureFixture[str]) -> None:
    asked = request("hushy")
    source = SecretCredentials()
    (found,) = source.load(asked)
    shown = f"{asked!r} {found!r} {source!r} {found_keys(asked)!r} {warnings.getvalue()} {capfd.readouterr()}"
    key = key_of_secret("hushy")
    assert key.fingerprint in shown
    for hidden in ("hushy", key.text[7:], key.data.hex(), repr(key.data)[2:-1], "PRIVATE KEY"):
        assert hidden not in shown
