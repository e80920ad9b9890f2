"""Which messages a peer may send, by what it is and by the roles that it has proved to have.

What is not listed is refused: a message without an entry in `NEEDED` is allowed to nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dispy.model import AccessRole, Role
from dispy.wire import messages as msg

NEEDED: Mapping[type[msg.Message], AccessRole | None] = {
    msg.Hello: None,
    msg.Heartbeat: None,
    msg.Goodbye: None,
    msg.StreamEnded: None,
    msg.StreamCredit: None,
    msg.OpenComputation: AccessRole.SUBMIT,
    msg.CloseComputation: AccessRole.SUBMIT,
    msg.AssignJobs: AccessRole.SUBMIT,
    msg.CancelJobs: AccessRole.SUBMIT,
    msg.AckResults: AccessRole.SUBMIT,
    msg.Reconcile: AccessRole.SUBMIT,
    msg.ComputationReady: AccessRole.NODE,
    msg.ComputationFailed: AccessRole.NODE,
    msg.ComputationClosed: AccessRole.NODE,
    msg.JobsStarted: AccessRole.NODE,
    msg.JobResults: AccessRole.NODE,
    msg.JobsRejected: AccessRole.NODE,
    msg.Reconciled: AccessRole.NODE,
    msg.NodeChanged: AccessRole.NODE,
    msg.JobNews: AccessRole.NODE,
    msg.AckNews: AccessRole.SUBMIT,
    msg.SendFile: AccessRole.SUBMIT,
    msg.FileTaken: AccessRole.NODE,
    msg.LimitSlots: AccessRole.SUBMIT,
    msg.WatchOutput: AccessRole.SUBMIT,
    msg.JobOutput: AccessRole.NODE,
    msg.FilesWanted: AccessRole.NODE,
    msg.FilesComing: AccessRole.SUBMIT,
    msg.ShareData: AccessRole.SUBMIT,
    msg.DropData: AccessRole.SUBMIT,
    msg.DataLost: AccessRole.NODE,
    msg.RecallJobs: AccessRole.SUBMIT,
}
"""Message -> the role that its sender needs; None: every peer that was accepted may send it."""

STREAMING = frozenset({AccessRole.SUBMIT, AccessRole.NODE})
"""Roles whose messages can announce a stream; without one of them a peer may send no chunk."""

EVERYTHING = frozenset(AccessRole)
"""All roles: those of a peer that nobody has asked for a proof, because the user wanted it so."""


def expand(roles: Iterable[AccessRole]) -> frozenset[AccessRole]:
    """Return *roles* and those that they include."""
    return frozenset().union(*(role.included for role in roles))


def entry_role(role: Role) -> AccessRole:
    """Return what a peer must have to greet as *role*."""
    return AccessRole.NODE if role is Role.NODE else AccessRole.OBSERVE


def allowed_messages(role: Role, roles: Iterable[AccessRole]) -> frozenset[type[msg.Message]]:
    """Return what a peer may send that greeted as *role* and has *roles*.

    What a client sends is not allowed to a node, whatever its roles are, and the other way round.
    """
    has = expand(roles)
    has = has & {AccessRole.NODE} if role is Role.NODE else has - {AccessRole.NODE}
    return frozenset(kind for kind, needed in NEEDED.items() if needed is None or needed in has)


def describe_refusal(kind: type[msg.Message], role: Role, roles: Iterable[AccessRole]) -> str:
    """Tell why a peer may not send a message of this kind."""
    needed = NEEDED.get(kind)
    if needed is None or (needed is AccessRole.NODE) != (role is Role.NODE):
        return f"{role} sent {kind.__name__}, which a {role} never sends"
    return f"{role} sent {kind.__name__}, which needs the role {needed}; {describe_roles(roles)}"


def describe_roles(roles: Iterable[AccessRole]) -> str:
    """Tell which roles a peer has."""
    names = ", ".join(sorted(roles))
    return f"its certificate says {names}" if names else "it has not proved any role"
