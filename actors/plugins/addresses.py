"""Which hosts and addresses may be connected to, where users name the server. Pure.

A name must not lead into the machine's own network. The rule has two halves: `host_name` refuses texts
that other software reads as a disguised address, and `refusal` judges the resolved address before we
connect.
"""

import ipaddress
import re
from enum import StrEnum

_HOST_CHARS_MAX = 253
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_LOOKS_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")

type IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reason(StrEnum):
    """Why a host, an address or a port is refused."""

    MALFORMED = "malformed"
    PRIVATE = "private"
    SPECIAL = "special"
    PORT = "port"


class AddressRefused(ValueError):  # noqa: N818  a refusal, not a fault
    """The text names no host that may be connected to. `reason` is one of `Reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"host refused: {reason}")
        self.reason = reason


_PRIVATE_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
)
# Link-local holds the metadata services of clouds. 6to4 relays and 192.0.0.0/24 lead elsewhere too.
_SPECIAL_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
)
_PRIVATE_V6 = (ipaddress.IPv6Network("::1/128"), ipaddress.IPv6Network("fc00::/7"))
# Cloud metadata that is not link-local (Alibaba, Azure, AWS): refused even if private addresses are allowed.
_METADATA_V4 = tuple(ipaddress.IPv4Network(text) for text in ("100.100.100.200/32", "168.63.129.16/32"))
_METADATA_V6 = ipaddress.IPv6Network("fd00:ec2::/32")
# Only global unicast is public, except ranges that embed or tunnel another address. v4-mapped, NAT64
# (64:ff9b::/96), site-local, link-local and multicast addresses all lie outside of 2000::/3.
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(
    ipaddress.IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)


def host_name(text: str) -> str:
    """The host in its one normal form: lower-case A-labels, or an address without brackets.

    Raises:
        AddressRefused: `text` is neither a host name nor an address in canonical form. Refused are, for
            example, `127.1`, `0x7f000001`, `2130706433`, and texts with a blank, a control character or
            a port.
    """
    stripped = text.strip(" ")
    literal = stripped[1:-1] if stripped.startswith("[") and stripped.endswith("]") else stripped
    if ":" in literal:
        return str(_address_text(literal, ipaddress.IPv6Address))
    try:
        # IDNA also folds full-width digits and dots, so the checks below see the name that DNS will see.
        ascii_name = literal.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        raise AddressRefused(Reason.MALFORMED) from None
    labels = ascii_name.split(".")
    if _LOOKS_NUMERIC.fullmatch(labels[-1]):
        return str(_address_text(ascii_name, ipaddress.IPv4Address))
    if len(ascii_name) > _HOST_CHARS_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressRefused(Reason.MALFORMED)
    return ascii_name


def _address_text(text: str, kind: type[IpAddress]) -> IpAddress:
    if "%" in text:
        raise AddressRefused(Reason.MALFORMED)
    try:
        return kind(text)
    except ValueError:
        raise AddressRefused(Reason.MALFORMED) from None


def refusal(address: str, *, allow_private: bool) -> Reason | None:
    """Why we must not connect to `address`, None if we may.

    `allow_private` admits only loopback, private, shared (CGNAT) and unique local addresses. Link-local
    (with its metadata services), multicast, unspecified and embedded forms stay refused.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return Reason.MALFORMED
    if _is_private(parsed):
        return None if allow_private else Reason.PRIVATE
    return None if is_public(address) else Reason.SPECIAL


def is_public(address: str) -> bool:
    """Whether `address` belongs to the public internet."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return not any(parsed in network for network in (*_PRIVATE_V4, *_SPECIAL_V4, *_METADATA_V4))
    return parsed in _GLOBAL_V6 and not any(parsed in network for network in _SPECIAL_V6)


def is_private(text: str) -> bool:
    """Whether `text` is an address of a private network or of this machine. A name is not."""
    try:
        return _is_private(ipaddress.ip_address(text))
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine: `localhost`, a name below it, or a loopback address."""
    name = host.removeprefix("[").removesuffix("]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_private(parsed: IpAddress) -> bool:
    if isinstance(parsed, ipaddress.IPv4Address):
        if any(parsed in network for network in _METADATA_V4):
            return False
        return any(parsed in network for network in _PRIVATE_V4)
    if parsed.scope_id is not None or parsed in _METADATA_V6:
        return False
    return any(parsed in network for network in _PRIVATE_V6)
