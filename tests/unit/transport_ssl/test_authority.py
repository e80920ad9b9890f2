from __future__ import annotations

import datetime
import stat
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from dispy.errors import CredentialsError, UsageError
from dispy.interfaces import SecurityRequest
from dispy.model import AccessRole
from dispy.private import LOCK_NAME, write_private
from dispy_transport_ssl import authority
from dispy_transport_ssl import certificates as certs
from dispy_transport_ssl.authority import CA_FILE, CA_KEY_FILE, AuthorityFolder
from dispy_transport_ssl.credentials import CertificateCredentials

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "certs"


@pytest.fixture
def folder(path: Path) -> AuthorityFolder:
    made = AuthorityFolder(path, NOW)
    made.init("lab", years=1)
    return made


def read(path: Path) -> certs.KeyPair:
    data = path.read_bytes()
    return certs.KeyPair(certs.read_certificates(data, "x")[0], certs.read_key(data, "x"))


def contents(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in path.iterdir()}


def modes(path: Path) -> dict[str, int]:
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.iterdir()}


def test_init_makes_private_files(path: Path, folder: AuthorityFolder) -> None:
    assert modes(path) == dict.fromkeys([CA_FILE, CA_KEY_FILE, LOCK_NAME], 0o600)
    assert modes(path.parent) == {"certs": 0o700}
    assert not certs.has_key((path / CA_FILE).read_bytes())


def test_init_overwrites_no_authority(path: Path, folder: AuthorityFolder) -> None:
    before = contents(path)
    with pytest.raises(CredentialsError, match="there is an authority in .* already; move the folder away"):
        folder.init("another", years=1)
    (path / CA_KEY_FILE).unlink()
    with pytest.raises(CredentialsError, match="already"):
        folder.init("another", years=1)
    assert contents(path) == {name: data for name, data in before.items() if name != CA_KEY_FILE}


@pytest.mark.parametrize("after", [0, 1])
def test_init_that_was_broken_off_is_done_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The machine stops before or after the key is written."""
    written: list[Path] = []

    def write(path: Path, data: bytes) -> None:
        if len(written) == after:
            raise KeyboardInterrupt
        written.append(path)
        write_private(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(authority, "write_private", write)
        with pytest.raises(KeyboardInterrupt):
            AuthorityFolder(path, NOW).init("lab", years=1)
    assert [one.name for one in written] == [CA_KEY_FILE][:after]
    with pytest.raises(
        CredentialsError, match="there is no authority in .*: make one with `dispy cert init`"
    ):
        AuthorityFolder(path, NOW).issue("alpha", roles=[AccessRole.NODE], days=1)
    before = contents(path)
    AuthorityFolder(path, NOW).init("lab", years=1)
    assert contents(path).items() >= before.items(), "a key that is there is the authority's"
    entry = AuthorityFolder(path, NOW).issue("alpha", roles=[AccessRole.NODE], days=1)
    read(entry.path).certificate.verify_directly_issued_by(
        certs.read_certificates((path / CA_FILE).read_bytes(), "x")[0]
    )


def test_init_leaves_a_key_of_another_kind_alone(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True)
    key = ec.generate_private_key(ec.SECP256R1())
    write_private(path / CA_KEY_FILE, certs.write_key(key))
    before = contents(path)
    with pytest.raises(CredentialsError, match="is of another kind than ours: move it away"):
        AuthorityFolder(path, NOW).init("lab", years=1)
    assert contents(path).items() >= before.items()
    assert not (path / CA_FILE).exists()


def test_of_many_that_init_at_once_one_succeeds(path: Path) -> None:
    start = threading.Barrier(4)
    told: list[str] = []

    def init() -> None:
        start.wait(10)
        try:
            told.append(AuthorityFolder(path, NOW).init("lab", years=1).fingerprint)
        except CredentialsError as error:
            told.append(str(error))

    threads = [threading.Thread(target=init) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    (made,) = [text for text in told if "already" not in text]
    assert len(told) == 4
    (entry,) = AuthorityFolder(path, NOW).entries()
    assert entry.fingerprint == made
    public = certs.read_certificates(entry.path.read_bytes(), "x")[0].public_key()
    key = certs.read_key((path / CA_KEY_FILE).read_bytes(), "x")
    assert certs.public_bytes(public) == certs.public_bytes(key.public_key())


def test_issued_file_is_a_credential(path: Path, folder: AuthorityFolder) -> None:
    entry = folder.issue("alpha", roles=[AccessRole.NODE, AccessRole.SUBMIT], days=30)
    assert (entry.name, entry.role_names, entry.expires) == ("alpha", ("node", "submit"), NOW + 30 * DAY)
    assert modes(path)["alpha.pem"] == 0o600
    request = SecurityRequest(AccessRole.NODE, certfile=str(entry.path), cafile=str(path / CA_FILE))
    (credential,) = CertificateCredentials(lambda: NOW).load(request)
    assert entry.fingerprint in credential.name


def test_issue_overwrites_nothing(folder: AuthorityFolder) -> None:
    entry = folder.issue("alpha", roles=[AccessRole.NODE], days=30)
    before = entry.path.read_bytes()
    with pytest.raises(CredentialsError, match="`dispy cert renew alpha`"):
        folder.issue("alpha", roles=[AccessRole.ADMIN], days=30)
    assert entry.path.read_bytes() == before


def test_renewing_keeps_roles_and_duration(path: Path, folder: AuthorityFolder) -> None:
    folder.issue("alpha", roles=[AccessRole.OBSERVE], days=30)
    old = read(path / "alpha.pem")
    later = AuthorityFolder(path, NOW + 20 * DAY)
    entry = later.renew("alpha", days=None)
    new = read(path / "alpha.pem")
    assert (entry.role_names, entry.expires) == (("observe",), NOW + 50 * DAY)
    assert certs.write_key(new.key) != certs.write_key(old.key)
    assert later.renew("alpha", days=5).expires == NOW + 25 * DAY
    assert modes(path)["alpha.pem"] == 0o600


def test_renewing_what_is_not_there(path: Path, folder: AuthorityFolder) -> None:
    with pytest.raises(CredentialsError, match="`dispy cert issue alpha`"):
        folder.renew("alpha", days=None)
    (path / "beta.pem").write_bytes((path / CA_FILE).read_bytes())
    (path / "beta.pem").chmod(0o600)
    with pytest.raises(CredentialsError, match="tells no role"):
        folder.renew("beta", days=None)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "ca", "ca-key", "-a", ".a", "a b", "a\n", "ä", "x" * 41]
)
def test_names_that_are_no_file_names(folder: AuthorityFolder, path: Path, name: str) -> None:
    before = modes(path)
    with pytest.raises(UsageError, match="cannot be the name"):
        folder.issue(name, roles=[AccessRole.NODE], days=1)
    with pytest.raises(UsageError, match="cannot be the name"):
        folder.renew(name, days=1)
    assert modes(path) == before


def test_list(path: Path, folder: AuthorityFolder) -> None:
    folder.issue("beta", roles=[AccessRole.NODE], days=30)
    folder.issue("alpha", roles=list(AccessRole), days=30)
    (path / CA_FILE).chmod(0o644)  # it is no secret
    assert [(entry.path.name, entry.role_names) for entry in folder.entries()] == [
        (CA_FILE, ()),
        ("alpha.pem", ("node", "observe", "submit", "operate", "admin")),
        ("beta.pem", ("node",)),
    ]


def test_no_authority(path: Path) -> None:
    folder = AuthorityFolder(path, NOW)
    for use in (folder.entries, lambda: folder.issue("alpha", roles=[AccessRole.NODE], days=1)):
        with pytest.raises(CredentialsError, match="make one with `dispy cert init`"):
            use()
    assert not path.exists()


def test_expired_authority(path: Path, folder: AuthorityFolder) -> None:
    late = AuthorityFolder(path, NOW + 400 * DAY)
    with pytest.raises(CredentialsError, match="has expired"):
        late.issue("alpha", roles=[AccessRole.NODE], days=1)


def test_authority_whose_key_is_open_to_others(path: Path, folder: AuthorityFolder) -> None:
    (path / CA_KEY_FILE).chmod(0o644)
    with pytest.raises(CredentialsError, match="chmod 600"):
        folder.issue("alpha", roles=[AccessRole.NODE], days=1)
