"""Limits per client address, the check of pages' origins, and notices of refusals. Pure.

Limits are of connections, requests, and retries of a wrong token. An IPv4 address or an IPv6 /64 counts as
one client. A limit of 0 means none.

The check of origins (PROTOCOL 3) keeps a page of another site from using its visitor's network position.
Other programs can send any `Origin`; tokens keep them out. A request without `Origin` does not come from a
page.

`Notices` bounds the log's notices about refused clients, so that clients cannot fill the log.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Sequence
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Protocol
from urllib.parse import urlsplit

from huahuo.transport.protocol.flow_control import TokenBucket

CONNECTIONS_PER_ADDRESS = 64

_FORWARDED_HOPS_MAX = 32
_FAILURES_FREE = 4
_FAILURE_WINDOW_S = 60.0
_FAILURES_KEPT = 16
_HOLD_S_MAX = 10.0
_THROTTLED_ADDRESSES_MAX = 10_000
_NAME_CHARS_MAX = 64
_REQUESTS_BURST = 4
_PEERS_KEPT = 1024

_LOOPBACK_6 = "::/64"

type _Address = IPv4Address | IPv6Address


class Entry(Enum):
    """The door's answer to a new connection from an address (PROTOCOL 6)."""

    ADMITTED = "admitted"
    OVER = "over"  # upgrade, then goaway and 4504; still counted until `leave`
    REFUSED = "refused"  # 429 instead of the upgrade; not counted


class Door(Protocol):
    """Limits per client address, for the server and the authentication."""

    def address(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """The key under which a client counts: an IPv4 address or an IPv6 /64.

        `peer` is the socket's IP. `forwarded_for` holds the values of X-Forwarded-For, which only trusted
        proxies may set.
        """
        ...

    def peer_address(self, peer: str) -> str:
        """The key of a socket whose request is not read yet; "" if the peer is a trusted proxy."""
        ...

    def enter(self, address: str) -> Entry:
        """Count a connection in."""
        ...

    def leave(self, address: str) -> None:
        """Count it out (once for each `enter` that was not REFUSED)."""
        ...

    def auth_failed(self, address: str, now_s: float) -> float | Awaitable[float]:
        """Note a failed authentication; returns the seconds to delay the answer (0 for four a minute)."""
        ...


class RequestLimit:
    """Allows each key `per_s` requests a second, in bursts of at most four times that; 0 means no limit.

    It remembers the last `keys_max` keys.
    """

    def __init__(self, per_s: int, keys_max: int = _THROTTLED_ADDRESSES_MAX) -> None:
        self.per_s = per_s
        self._keys_max = keys_max
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self.refused_count = 0
        self.spent: Counter[str] | None = None
        """What each key took since it was emptied, for other nodes. None: there are none."""

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str, now_s: float) -> float:
        """Count a request and return 0, or return the seconds until one is allowed."""
        if self.per_s <= 0:
            return 0.0
        bucket = self._bucket(key, now_s)
        if bucket.take(now_s):
            if self.spent is not None and (key in self.spent or len(self.spent) < self._keys_max):
                self.spent[key] += 1
            return 0.0
        self.refused_count += 1
        return bucket.wait_s(now_s)

    def charge(self, key: str, count: int, now_s: float) -> None:
        """The key was allowed `count` requests on another node."""
        if self.per_s > 0:
            self._bucket(key, now_s).charge(now_s, count)

    def _bucket(self, key: str, now_s: float) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self.per_s, _REQUESTS_BURST * self.per_s, now_s)
            if len(self._buckets) > self._keys_max:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket


class FailureThrottle:
    """Delays the answer to a failed authentication by 1 to 10 s, from the fifth failure in a minute on.

    It remembers the last `addresses_max` addresses that failed.
    """

    def __init__(self, addresses_max: int = _THROTTLED_ADDRESSES_MAX) -> None:
        self._addresses_max = addresses_max
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def failed(self, address: str, now_s: float) -> float:
        """Note a failure; returns the seconds to wait before it is answered."""
        times = self._failures.setdefault(address, deque(maxlen=_FAILURES_KEPT))
        self._failures.move_to_end(address)
        if len(self._failures) > self._addresses_max:
            self._failures.popitem(last=False)
        while times and times[0] <= now_s - _FAILURE_WINDOW_S:
            times.popleft()
        times.append(now_s)
        over = len(times) - _FAILURES_FREE
        return min(_HOLD_S_MAX, 2.0 ** (over - 1)) if over > 0 else 0.0


class AddressDoor:
    """Implements `huahuo.transport.access.door.Door`.

    `trusted_proxies` are addresses or networks (`10.0.0.0/8`) whose X-Forwarded-For counts.

    Raises:
        ValueError: a trusted proxy is no address and no network.
    """

    def __init__(
        self, connections_max: int = CONNECTIONS_PER_ADDRESS, trusted_proxies: Sequence[str] = ()
    ) -> None:
        self._limit = connections_max
        self._counts: dict[str, int] = {}
        """Of addresses with a live connection."""
        self._throttle = FailureThrottle()
        self._trusted = tuple(ip_network(proxy, strict=False) for proxy in trusted_proxies)

    @property
    def trusted(self) -> tuple[object, ...]:
        """The addresses and networks of trusted proxies."""
        return self._trusted

    def address(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """The key under which a client counts: the right-most address that is not a trusted proxy's."""
        if not self._trusted:
            return _peer_key(peer)
        nearest = _parsed(peer)
        if nearest is None:
            return _peer_key(peer)
        for hop in _hops_from_the_right(forwarded_for):
            if not self._trusts(nearest):
                break
            further = _parsed(hop)
            if further is None:  # not an address: no trusted proxy vouches for the values to the left
                break
            nearest = further
        return _key(nearest)

    def peer_address(self, peer: str) -> str:
        """See `Door`."""
        if self._trusted:
            nearest = _parsed(peer)
            if nearest is not None and self._trusts(nearest):
                return ""
        return _peer_key(peer)

    def enter(self, address: str) -> Entry:
        """See `Door`. From twice the limit on it is refused."""
        count = self._counts.get(address, 0)
        if 0 < 2 * self._limit <= count:
            return Entry.REFUSED
        self._counts[address] = count + 1
        return Entry.OVER if 0 < self._limit <= count else Entry.ADMITTED

    def leave(self, address: str) -> None:
        """See `Door`."""
        count = self._counts.get(address, 0)
        if count > 1:
            self._counts[address] = count - 1
        else:
            self._counts.pop(address, None)

    @property
    def address_count(self) -> int:
        """How many addresses have a live connection."""
        return len(self._counts)

    def connection_count(self, address: str) -> int:
        """The number of live connections of `address`."""
        return self._counts.get(address, 0)

    def auth_failed(self, address: str, now_s: float) -> float:
        """See `Door`."""
        return self._throttle.failed(address, now_s)

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._trusted)


def is_loopback(address: str) -> bool:
    """Whether `AddressDoor.address` gives this key to clients on the same machine."""
    return address == _LOOPBACK_6 or address.startswith("127.")


@lru_cache(maxsize=_PEERS_KEPT)
def _peer_key(peer: str) -> str:
    """The key of a socket's own address. Cached: parsing takes longer than all other work of the door."""
    address = _parsed(peer)
    return peer[:_NAME_CHARS_MAX] or "unknown" if address is None else _key(address)


def _hops_from_the_right(forwarded_for: Sequence[str]) -> list[str]:
    hops: list[str] = []
    for value in reversed(forwarded_for):
        hops.extend(reversed(value.split(",")))
        if len(hops) >= _FORWARDED_HOPS_MAX:
            break
    return hops[:_FORWARDED_HOPS_MAX]


def _parsed(text: str) -> _Address | None:
    """The address in `text`, which may have a port (`1.2.3.4:80`, `[::1]:80`), a zone, or be IPv4 in IPv6."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _key(address: _Address) -> str:
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False))
    return str(address)


_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of this machine. A page of one of them was served here, as was a page of any other of them."""


def origin_allowed(origins: Sequence[str], hosts: Sequence[str], allowed: Sequence[str]) -> bool:
    """Whether the request's `Origin` headers name its own host (any port) or an allowed origin.

    The names of this machine, such as localhost and 127.0.0.1, count as one host.
    """
    if not origins:
        return True
    if len(origins) > 1:
        return False
    origin = origins[0].strip().lower()
    if origin in (entry.rstrip("/").lower() for entry in allowed):
        return True
    own = _hostname(f"//{hosts[0].strip()}") if len(hosts) == 1 else None
    if own is None or not origin.startswith(("http://", "https://")):
        return False
    page = _hostname(origin)
    return page == own or (page in _LOOPBACK and own in _LOOPBACK)


def _hostname(url: str) -> str | None:
    if not url.isprintable():  # the standard library would leave out tabs and ends of lines
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError if it is not a number
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.hostname or None


NOTICES_PER_MINUTE: Final = 6
NOTICES_BURST: Final = 6


class Notices:
    """Lets through at most six notices of each kind a minute and counts the others."""

    def __init__(self) -> None:
        self._buckets: dict[str, TokenBucket] = {}
        self._held_back: dict[str, int] = {}

    def due(self, kind: str, now_s: float) -> int | None:
        """How many of this kind were held back since the last notice. None: hold this one back too.

        `kind` is a constant in the code, never text of a client, so the table stays small.
        """
        bucket = self._buckets.get(kind)
        if bucket is None:
            bucket = self._buckets[kind] = TokenBucket(NOTICES_PER_MINUTE / 60, NOTICES_BURST, now_s)
        if not bucket.take(now_s):
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return None
        return self._held_back.pop(kind, 0)
