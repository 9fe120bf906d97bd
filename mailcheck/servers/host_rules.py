"""Which hosts, addresses and ports a mail server may have. Pure; `network` resolves the names.

The rules are those of every server that users name (`huahuo.actors.outside.addresses`); here a refusal is a
fault of mail.
"""

from huahuo.actors.outside import addresses
from huahuo.actors.outside.addresses import (
    AddressRefused,
    Reason,
    is_loopback,
    is_private,
    is_public,
    refusal,
)
from huahuo.mailcheck.servers.faults import HostRefused

__all__ = ["Reason", "host_name", "is_loopback", "is_private", "is_public", "refusal"]


def host_name(text: str) -> str:
    """See `addresses.host_name`. Raises HostRefused."""
    try:
        return addresses.host_name(text)
    except AddressRefused as refused:
        raise HostRefused(refused.reason) from None
