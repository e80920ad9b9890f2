"""Keys of clusters: 32 bytes, their text for copying, their fingerprint for comparing, and passphrases instead.

    dispy1-<base32 of the key and of a checksum of 4 bytes, lower case, without padding>

Neither `repr` nor any message of an error shows a key or a passphrase.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import secrets
import unicodedata
from dataclasses import dataclass

from dispy.errors import CredentialsError
from dispy.logger import logger

PREFIX = "dispy1-"
KEY_BYTES = 32
CHECKSUM_BYTES = 4

SCRYPT_SALT = b"dispy passphrase v1"
"""The same everywhere: whoever knows the passphrase must come to the same key without having met before."""
SCRYPT_COST = 2**15
"""With blocks of 8 that is 32 MiB and a tenth of a second for each guess."""
SCRYPT_MAX_BYTES = 64 * 1024 * 1024

WEAK_LENGTH = 8
WEAK_DISTINCT = 5
"""A passphrase with fewer different characters is about as good as a shorter one."""


def subkey(key: bytes, purpose: str) -> bytes:
    """Derive 32 bytes for one purpose, from which neither *key* nor those for other purposes can be found."""
    # Imported here, since it takes a while and `dispy --help` does not need it.
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose.encode()).derive(key)


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """The key of a cluster; whoever has it belongs to the cluster.

    Attributes:
        data: 32 bytes that nobody can guess.
    """

    data: bytes

    def __repr__(self) -> str:
        return f"<Key {self.fingerprint}>"

    @property
    def fingerprint(self) -> str:
        """What people compare on two machines, ``"3f2a-91bc-77d0-0c4e"``; it tells nothing about the key."""
        digits = subkey(self.data, "dispy fingerprint")[:8].hex()
        return "-".join(digits[start : start + 4] for start in range(0, len(digits), 4))

    @property
    def text(self) -> str:
        """The key itself, for copying."""
        encoded = base64.b32encode(self.data + _checksum(self.data)).decode("ascii")
        return PREFIX + encoded.rstrip("=").lower()


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(b"dispy key" + data).digest()[:CHECKSUM_BYTES]


def make_key() -> Key:
    """Return a new random key."""
    return Key(secrets.token_bytes(KEY_BYTES))


def is_key_text(text: str) -> bool:
    """Tell whether a text is meant to be a key, right or not."""
    return text.strip().lower().startswith(PREFIX)


def parse_key(text: str) -> Key:
    """Return the key that a text stands for; white space around it and upper case do not matter.

    Raises:
        CredentialsError: it is none, or was not copied exactly.
    """
    text = text.strip().lower()
    if not is_key_text(text):
        raise CredentialsError(
            f"this is no key, since it does not start with {PREFIX}; "
            "copy the whole line that this command prints on the other machine: dispy key show"
        )
    encoded = text.removeprefix(PREFIX).upper()
    try:
        decoded = base64.b32decode(encoded + "=" * (-len(encoded) % 8))
    except ValueError:  # it holds other characters, or too few of them
        decoded = b""
    key = Key(decoded[:KEY_BYTES])
    if len(decoded) != KEY_BYTES + CHECKSUM_BYTES or key.text != text:
        raise CredentialsError(
            "the key was not copied exactly, since its checksum does not fit; "
            "copy the whole line that this command prints on the other machine: dispy key show"
        )
    return key


def key_of_secret(secret: str) -> Key:
    """Return the key that a secret stands for: itself if it is the text of a key, else it is a passphrase.

    It takes a tenth of a second for a passphrase that this process has not used before. Of a weak one the user is
    warned, once.

    Raises:
        CredentialsError: it is a key that was not copied exactly.
    """
    if is_key_text(secret):
        return parse_key(secret)
    if len(secret) < WEAK_LENGTH or len(set(secret)) < WEAK_DISTINCT:
        _warn_of_weak_passphrase()
    return _stretch(secret)


@functools.lru_cache(maxsize=16)
def _stretch(passphrase: str) -> Key:
    # Systems differ in how they compose accented letters. Bytes that are no text come in as lone surrogates.
    data = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass")
    return Key(
        hashlib.scrypt(
            data, salt=SCRYPT_SALT, n=SCRYPT_COST, r=8, p=1, maxmem=SCRYPT_MAX_BYTES, dklen=KEY_BYTES
        )
    )


@functools.cache
def _warn_of_weak_passphrase() -> None:
    logger.warning(
        "the secret can be guessed, since it is short or has few different characters; "
        "make a strong one with: dispy key new"
    )
