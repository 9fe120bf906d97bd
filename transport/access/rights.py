"""The right to read a stream (PROTOCOL 2). Pure.

Internal streams (`mailbox/…`, `auth`, `audit`) are read only through `log`. An impossible name is refused
like a forbidden one, so that the answer does not reveal which streams exist.
"""

import re

from huahuo.actors.plugins.principal import Principal, user_id_of
from huahuo.eventstore.model import LOG_STREAM

SYSTEM_STREAM = "system"

_GROUP = re.compile(r"group/([A-Za-z0-9_.-]{1,64})")


def is_user_stream(stream: str) -> bool:
    """Whether a user can have this stream."""
    kind, _, rest = stream.partition("/")
    return kind == "user" and user_id_of(rest) is not None


def may_read(principal: Principal, stream: str) -> bool:
    """Whether `principal` may subscribe to `stream` now."""
    if stream in (SYSTEM_STREAM, principal.name):
        return True
    if stream == LOG_STREAM or is_user_stream(stream):
        return principal.is_admin
    group = _GROUP.fullmatch(stream)
    return group is not None and (principal.is_admin or group[1] in principal.groups)
