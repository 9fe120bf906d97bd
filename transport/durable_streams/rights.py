"""Who may read and write which path, and who may without a token. Pure."""

import ipaddress
import re
from typing import Final

from huahuo.actors.plugins.principal import Principal, user_id_of
from huahuo.transport.access.door import is_loopback
from huahuo.transport.access.rights import READ, WRITE
from huahuo.transport.access.verified import Verified
from huahuo.transport.http.messages import Request

ANYBODY: Final = Verified(Principal("ds:open", "anybody"), expires_at_ms=1 << 52)
"""Who asks without a token where that is allowed. No token can name this user."""

_HOST: Final = re.compile(r"(\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[a-z0-9.-]+))(:[0-9]*)?", re.IGNORECASE)


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
    """Whether a request comes from this machine and names it: a page of another site cannot.

    `address` is as `Door.address` gives it. That of a proxy on this machine that is not trusted is a loopback
    address, too; then the client counts that it names in X-Forwarded-For.
    """
    hops = ",".join(request.all("x-forwarded-for"))
    if hops and not _is_loopback(hops.rpartition(",")[2].strip()):
        return False
    host = _HOST.fullmatch(request.header("host") or "")
    if host is None or not is_loopback(address):
        return False
    name = host["address"] or host["name"]
    return name.lower() == "localhost" or _is_loopback(name)


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False
