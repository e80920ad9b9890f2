"""Hints: how a client tells which credential it is about to use, without showing it to strangers.

A hint is sent as the server name of the handshake (SNI), which is not encrypted:

    <nonce, 16 hexadecimal digits>.<tag, 32 hexadecimal digits>.dispy

The tag is the first 16 bytes of HMAC-SHA256 under the hint key over "dispy sni" and the nonce's 8 bytes. To who does
not have the key two hints look unrelated. A hint may be replayed: it gives no access, only a look at the handshake.
"""

from __future__ import annotations

import hashlib
import hmac
import re

NONCE_BYTES = 8
TAG_BYTES = 16

_LABEL = b"dispy sni"
_FORM = re.compile(rf"([0-9a-f]{{{2 * NONCE_BYTES}}})\.([0-9a-f]{{{2 * TAG_BYTES}}})\.dispy")


def make_hint(hint_key: bytes, nonce: bytes) -> str:
    """Return the server name to send.

    Args:
        nonce: NONCE_BYTES random bytes.
    """
    return f"{nonce.hex()}.{_tag(hint_key, nonce).hex()}.dispy"


def is_hint_for(name: str, hint_key: bytes) -> bool:
    """Tell whether a server name is a hint that was made with this key."""
    found = _FORM.fullmatch(name)
    if found is None:
        return False
    nonce, tag = (bytes.fromhex(part) for part in found.groups())
    return hmac.compare_digest(tag, _tag(hint_key, nonce))


def _tag(hint_key: bytes, nonce: bytes) -> bytes:
    return hmac.digest(hint_key, _LABEL + nonce, hashlib.sha256)[:TAG_BYTES]
