"""The right to read a stream (PROTOCOL 2), and what the holder of an API key may do. Pure.

Internal streams (`mailbox/…`, `auth`, `audit`) are read only through `log`. Administrators read every stream
of a kind without a judge: an application's own without an entity, or that of an entity which was removed. An
impossible name is refused like a forbidden one, so that the answer does not reveal which streams exist.
"""

import re
from typing import Final

import msgspec

from huahuo.actors.domain.names import is_own_stream
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.principal import Principal, user_id_of
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
