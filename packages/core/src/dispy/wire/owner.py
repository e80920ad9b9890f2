"""Who an ident belongs to: what the first link that greets with it shows, and later ones must show again.

An ident alone is no secret: whoever has been told it could say it too, and take over what it stands for. Two things
bind it. The *subject* is proved by TLS: it is what an authority has certified, and outlives renewals of the
certificate. It is empty where all have one key and are equals. The *proof* is a secret of the one who greets: an HMAC
that only its owner can make, and for each audience another one, so that who is shown it cannot show it to others.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

SECRET_BYTES = 32
"""Length of the secret from which proofs are made."""

_PURPOSE = b"dispy proof\0"


def make_proof(secret: bytes, audience: str) -> bytes:
    """Return what the owner of *secret* shows to one peer.

    Args:
        audience: the key that the peer has shown (`dispy.interfaces.Identity.key`); empty where TLS proves a subject,
            which nobody else can show, or where nothing is proved.
    """
    return hmac.digest(secret, _PURPOSE + audience.encode(), hashlib.sha256)


@dataclass(frozen=True, slots=True)
class Owner:
    """What a participant has shown when it greeted.

    Attributes:
        subject: whom its certificate is for; empty if that tells nothing.
        proof: what its greeting has shown.
        may_act: it may do more than look. Who may only look is never the one whose work is here.
    """

    subject: str = ""
    proof: bytes = field(default=b"", repr=False)
    may_act: bool = True

    def is_same(self, other: Owner) -> bool:
        """Tell whether *other* has shown the same; how long that takes tells nothing about the proof."""
        same = hmac.compare_digest(self.proof, other.proof)
        return same and self.subject == other.subject and self.may_act == other.may_act


UNKNOWN = Owner()
"""Who has shown nothing."""
