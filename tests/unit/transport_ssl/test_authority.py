from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest

from dispy.errors import CredentialsError, UsageError
from dispy.interfaces import SecurityRequest
from dispy.model import AccessRole
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


def modes(path: Path) -> dict[str, int]:
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.iterdir()}


def test_init_makes_private_files(path: Path, folder: AuthorityFolder) -> None:
    assert modes(path) == {CA_FILE: 0o600, CA_KEY_FILE: 0o600}
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert not certs.has_key((path / CA_FILE).read_bytes())


@pytest.mark.parametrize("left", [CA_FILE, CA_KEY_FILE])
def test_init_overwrites_nothing(path: Path, folder: AuthorityFolder, left: str) -> None:
    for name in {CA_FILE, CA_KEY_FILE} - {left}:
        (path / name).unlink()
    before = (path / left).read_bytes()
    with pytest.raises(CredentialsError, match="there is an authority in"):
        folder.init("lab", years=1)
    assert {each.name: each.read_bytes() for each in path.iterdir()} == {left: before}


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
