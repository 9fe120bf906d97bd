"""Who a client is, and what it may: the result of checking a token, and rights to streams and actions. Pure.

Internal streams (`mailbox/…`, `auth`, `audit`) are read only through `log` (PROTOCOL 2). Administrators
read every stream of a kind without a judge: an application's own without an entity, or that of an entity
which was removed. An impossible name is refused like a forbidden one, so that the answer does not reveal
which streams exist. The holder of an API key may do what its rights say.
"""

import re
from collections.abc import Awaitable
from typing import Final, Protocol

import msgspec

from huahuo.actors.domain.storable import is_own_stream
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Principal, UserId, user_id_of
from huahuo.eventstore.model import LOG_STREAM

SYSTEM_STREAM = "system"

READ: Final = "read"
"""Streams and queries of the user."""
WRITE: Final = "write"
"""Commands of the user, and durable streams."""
CODES: Final = "codes"
"""The newest verification code of a mailbox, by HTTP, and nothing else."""
ADMIN: Final = "admin"
"""What an administrator may, in addition to the other rights."""
RIGHTS: Final = (READ, WRITE, CODES, ADMIN)
"""Rights of API keys. The name of an action is one, too."""

_GROUP = re.compile(r"group/([A-Za-z0-9_.-]{1,64})")


_INTERNAL = frozenset({"mailbox", "roster", "auth", "audit", "effect", "timer", "projection", "ds"})
"""Kinds of streams whose readers nobody judges: administrators read them through `log`."""


class Judged(msgspec.Struct, frozen=True):
    """The streams whose readers an application judges.

    `kinds`: the kinds with a judge of their own. `others`: whether `authorize` judges all other streams, but
    for a user's own one, `system` and `log`.
    """

    kinds: frozenset[str] = frozenset()
    others: bool = False

    def __bool__(self) -> bool:
        return self.others or bool(self.kinds)

    def concerns(self, stream: str) -> bool:
        """Whether the right of some user to read `stream` is for the application to judge."""
        kind = stream.partition("/")[0]
        return kind in self.kinds or (
            self.others and kind not in _INTERNAL and stream not in (SYSTEM_STREAM, LOG_STREAM)
        )

    def asks(self, principal: Principal, stream: str) -> bool:
        """Whether the right of this user to read `stream` is."""
        # In one frame: asked for each stream of each client that comes back.
        if not (self.others or self.kinds) or not principal.may(READ):
            return False
        kind = stream.partition("/")[0]
        if kind in self.kinds:
            return True
        if not self.others or kind in _INTERNAL or stream in (SYSTEM_STREAM, LOG_STREAM):
            return False
        by_rule = principal.is_admin and kind in ("user", "group")
        return stream != principal.name and not by_rule


def is_user_stream(stream: str) -> bool:
    """Whether a user can have this stream."""
    kind, _, rest = stream.partition("/")
    return kind == "user" and user_id_of(rest) is not None


def may_read(principal: Principal, stream: str) -> bool:
    """Whether `principal` may subscribe to `stream` now."""
    if not principal.may(READ):
        return False
    if stream in (SYSTEM_STREAM, principal.name):
        return True
    if stream == LOG_STREAM or is_user_stream(stream):
        return principal.is_admin
    group = _GROUP.fullmatch(stream)
    if group is not None and group[1] in principal.groups:
        return True
    # Also of a kind that today's application does not know: what it wrote once is shown as it is stored.
    return principal.is_admin and is_own_stream(stream, ())


def could_call(principal: Principal, action: str) -> bool:
    """Whether `principal` could call an action of this name, which is not known any more, as its user."""
    rights = principal.rights
    return rights is None or action in rights or WRITE in rights


def may_call(principal: Principal, action: Action) -> bool:
    """Whether `principal` may call an action at all."""
    rights = principal.rights
    if rights is None:
        return principal.is_admin or not action.admin
    if action.signed_in:
        return False
    if action.action in rights:
        return True
    return (READ if action.query else WRITE) in rights and (principal.is_admin or not action.admin)


NOT_NOW: Final = "unavailable"
"""The code of a failure that says nothing about the token: who judges it did not answer."""


class Verified(msgspec.Struct, frozen=True):
    """A valid token: its user, its expiry (ms since 1970), and the claims that revocations match.

    `jti` is "" and `iat_ms` is None if the token has none.
    """

    principal: Principal
    expires_at_ms: int
    jti: str = ""
    iat_ms: int | None = None
    told_id: UserId | None = None
    """The user's id as the token spells it, if otherwise than the principal's: clients get it back so."""


class AuthFailure(msgspec.Struct, frozen=True):
    """No user. `code`: `token_expired`, `token_invalid`, `token_revoked`, or `NOT_NOW`.

    `reason` is for the operator's log; the client is told the code only.
    """

    code: str
    reason: str = ""


type Verdict = Verified | AuthFailure
"""What became of a token."""


class Verifier(Protocol):
    """Judges tokens. Neither method raises, whatever the token is."""

    def verify(self, token: str, now_ms: int) -> Verdict | Awaitable[Verdict]:
        """Judge `token`: at once, or as soon as others have answered, within a few seconds."""
        ...

    def still_good(self, verified: Verified, now_ms: int) -> AuthFailure | None:
        """Why a token that was judged good is so no longer; None if it is. Nobody else is asked."""
        ...
