"""Who may read and write which path, and who may without a token. Pure."""

import ipaddress
from typing import Final

from huahuo.actors.plugins.principal import Principal, user_id_of
from huahuo.transport.access.rights import READ, WRITE
from huahuo.transport.access.verified import Verified
from huahuo.transport.http.messages import Request

ANYBODY: Final = Verified(Principal("ds:open", "anybody"), expires_at_ms=1 << 52)
"""Who asks without a token where that is allowed. No token can name this user."""


def may_use(principal: Principal, path: str, *, is_open: bool, writes: bool = False) -> bool:
    """Whether `principal` may read the stream at `path`, or write it.

    `user/<id>/…` belongs to that user, `group/<name>/…` to the group's members, and all to administrators.
    """
    if not is_open and not principal.may(WRITE if writes else READ):
        return False
    if is_open or principal.is_admin:
        return True
    kind, _, rest = path.partition("/")
    owner = rest.partition("/")[0]
    if kind == "user":
        return user_id_of(owner) == principal.user_id
    return kind == "group" and owner in principal.groups


def is_near(request: Request, address: str) -> bool:
    """Whether a request comes from this machine and names it: a page of another site cannot."""
    host = (request.header("host") or "").strip()
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return _is_loopback(address) and (name.lower() == "localhost" or _is_loopback(name))


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False
