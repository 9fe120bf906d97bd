"""An issuer's keys (JWKS): which keys verify which tokens, and when they are fetched.

Only public keys of RS256, ES256 and EdDSA are taken, each for its one algorithm. So neither a shared key in
the set, nor a public key that is used as one, can ever verify a token.

This is by hand because `jwt.PyJWKClient` keeps few of the bounds of docs/limits.md. Its timeout is that of
one read, so an answer that trickles has no end. It reads an answer of any size, takes any number of keys of
any length, private and shared ones too, and uses none without a kid. It fetches in the call that asks for a
key, so tokens wait on threads while the set is renewed. And it refuses all tokens once a set is older than
its lifespan and the address does not answer.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import jwt
import msgspec
import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.transport.access.claims import KID_CHARS_MAX, Compact, TokenError, decoded
from huahuo.transport.client.connection import Unreachable, fetch

SET_BYTES_MAX: Final = 256 << 10
FRESH_S: Final = 300.0
STALE_S: Final = 3600.0
"""Keys of this age are not used before one more try to fetch newer ones: one of them may be withdrawn.

If that try failed, they hold for `FRESH_S` while it is repeated in the background, so that one that hangs
does not delay every sign-in.
"""
UNKNOWN_S: Final = 60.0
FETCH_S: Final = 5.0
ALGORITHMS: Final = ("RS256", "ES256", "EdDSA")
KEYS_MAX: Final = 64
_RSA_BITS_MIN: Final = 2048
_RSA_BITS_MAX: Final = 8192
"""A larger key would make each signature cost milliseconds."""
_KINDS: Final = {("RSA", ""): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_log = structlog.get_logger(__name__)
_jws: Final = jwt.PyJWS(algorithms=list(ALGORITHMS))
_algorithms: Final[Mapping[str, Any]] = {name: _jws.get_algorithm_by_name(name) for name in ALGORITHMS}
_set: Final = msgspec.json.Decoder(dict[str, Any])


class Fetch(Protocol):
    """See `fetch`."""

    def __call__(self, url: str, *, bytes_max: int, timeout_s: float) -> Awaitable[bytes]:
        """The file at `url`. Raises Unreachable."""
        ...


def refuse_url(url: str) -> str:
    """Why keys may not be fetched from this address; "" if they may."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError if it is no number
    except ValueError:
        return "it is no address"
    if parts.scheme not in ("https", "http") or not parts.hostname or not url.isascii():
        return "it must begin with https://"
    if parts.username is not None or parts.fragment:
        return "it must have neither a user name nor a #"
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        return "http:// is for this machine only: on a network, anyone between could give keys of their own"
    return ""


class BadKeySet(Exception):  # noqa: N818  says what it is
    """It is no key set, or no key of it can be used. The text is for the log."""


class UnknownKey(TokenError):  # noqa: N818  says what it is
    """No key of the set has the token's kid; a newer set may have one."""


class KeySet:
    """A JSON Web Key Set (RFC 7517): its usable keys. Raises BadKeySet: there is none."""

    def __init__(self, text: bytes) -> None:
        self._keys: dict[tuple[str, str], Any] = {}
        self._alone: dict[str, list[Any]] = {}
        self.left_out: dict[str, str] = {}
        """Why a key is not used, by its kid."""
        try:
            listed = _set.decode(text).get("keys")
        except (msgspec.DecodeError, ValueError, RecursionError):
            listed = None
        if not isinstance(listed, list):
            raise BadKeySet("it is no JSON object with a list `keys`")
        for jwk in listed[:KEYS_MAX]:
            if isinstance(jwk, dict):
                self._add(jwk)
        if not self._alone:
            raise BadKeySet(f"it has no key for {', '.join(ALGORITHMS)}")

    def __len__(self) -> int:
        return sum(map(len, self._alone.values()))

    def payload(self, parts: Compact) -> bytes:
        """What the token says, if a key of the set signed it.

        Raises:
            UnknownKey: the set has no key of its kid.
            TokenError: it is not accepted.
        """
        algorithm, kid = parts.header.algorithm, parts.header.kid
        if algorithm not in _algorithms:
            raise TokenError(f"its algorithm is none of {', '.join(ALGORITHMS)}")
        if kid is None:
            known = self._alone.get(algorithm, ())
            if len(known) != 1:
                raise TokenError(f"it has no kid, and the key set has {len(known)} keys for {algorithm}")
            key = known[0]
        elif len(kid) > KID_CHARS_MAX:
            raise TokenError("its kid is too long")
        else:
            key = self._keys.get((kid, algorithm))
            if key is None:
                raise UnknownKey("the key set has no key of its kid and algorithm")
        signature = decoded(parts.signature)
        if not _algorithms[algorithm].verify(parts.signed, key, signature):
            raise TokenError("its signature does not fit the key of its kid")
        return decoded(parts.payload)

    def _add(self, jwk: Mapping[str, Any]) -> None:
        kid = jwk.get("kid")
        name = kid if isinstance(kid, str) else ""
        try:
            algorithm, key = _usable(jwk)
        except ValueError as error:
            if len(name) <= KID_CHARS_MAX:
                self.left_out[name] = str(error)
            return
        if isinstance(kid, str):
            if (kid, algorithm) in self._keys:
                self.left_out[name] = "another key has the same kid"
                return
            self._keys[kid, algorithm] = key
        self._alone.setdefault(algorithm, []).append(key)


def _usable(jwk: Mapping[str, Any]) -> tuple[str, Any]:
    """The algorithm and the key. Raises ValueError: it is not for signatures that are verified here."""
    kind = jwk.get("kty")
    curve = jwk.get("crv", "") if kind != "RSA" else ""
    algorithm = _KINDS.get((kind, curve)) if isinstance(kind, str) and isinstance(curve, str) else None
    if algorithm is None:
        raise ValueError("it is no public key of a kind that is used")
    if jwk.get("use", "sig") != "sig":
        raise ValueError("it is not for signatures")
    purposes = jwk.get("key_ops", ["verify"])
    if not isinstance(purposes, list) or "verify" not in purposes:
        raise ValueError("it is not for verifying")
    if jwk.get("alg", algorithm) != algorithm:
        raise ValueError("it is for another algorithm")
    if "d" in jwk:
        raise ValueError("it is a private key, which everybody knows now")
    try:
        key = _algorithms[algorithm].from_jwk(dict(jwk))
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        raise ValueError("it cannot be read") from None
    if algorithm == "RS256" and not _RSA_BITS_MIN <= key.key_size <= _RSA_BITS_MAX:
        raise ValueError(f"it has {key.key_size} bits, not {_RSA_BITS_MIN} to {_RSA_BITS_MAX}")
    return algorithm, key


class KeyServer:
    """The keys of an issuer, fetched from its address and kept.

    A set is fetched again in the background after `FRESH_S`. A token with an unknown kid makes it be fetched
    at once, but at most once in `UNKNOWN_S`, so that nobody can make us a burden for the issuer. While the
    address does not answer, the keys that were fetched last go on to verify.
    """

    def __init__(self, url: str, ambient: Ambient, fetch: Fetch = fetch) -> None:
        self._url = url
        self._ambient = ambient
        self._fetch = fetch
        self._keys: KeySet | None = None
        self._fetched_s = 0.0
        self._tried_s: float | None = None
        self._unknown_s: float | None = None
        self._under_way: asyncio.Task[None] | None = None
        self.failed = False
        """Whether the last try failed."""

    @property
    def key_count(self) -> int:
        """How many keys it has."""
        return 0 if self._keys is None else len(self._keys)

    def known(self) -> KeySet | None:
        """The keys, if they may be used without waiting. They are renewed in the background."""
        if self._keys is None:
            return None
        now_s = self._ambient.monotonic_s()
        age_s = now_s - self._fetched_s
        if age_s >= FRESH_S and self._may_try():
            tried = self.failed and self._tried_s is not None and now_s - self._tried_s < FRESH_S
            self._begin()
            if age_s >= STALE_S and not tried:
                return None
        return self._keys

    async def fetched(self) -> KeySet | None:
        """The keys after the fetch that is under way, or after one that is due. None: there are none."""
        if self._under_way is not None or self._may_try():
            await self._wait()
        return self._keys

    async def newer(self) -> KeySet | None:
        """The keys after one more fetch for an unknown kid, if there may be one now."""
        now_s = self._ambient.monotonic_s()
        if self._under_way is not None:
            await self._wait()
        elif self._unknown_s is None or now_s - self._unknown_s >= UNKNOWN_S:
            self._unknown_s = now_s
            await self._wait()
        return self._keys

    async def close(self) -> None:
        """Give up a fetch that is under way."""
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.gather(self._under_way, return_exceptions=True)

    def _may_try(self) -> bool:
        """Whether the last try is long enough ago. A failed one is repeated sooner, but not at once."""
        if self._under_way is not None or self._tried_s is None:
            return True
        return self._ambient.monotonic_s() - self._tried_s >= FETCH_S

    async def _wait(self) -> None:
        await asyncio.shield(self._begin())

    def _begin(self) -> asyncio.Task[None]:
        if self._under_way is None:
            self._under_way = asyncio.get_running_loop().create_task(self._renew(), name="fetch keys")
            self._under_way.add_done_callback(self._done)
        return self._under_way

    def _done(self, _task: asyncio.Task[None]) -> None:
        self._under_way = None

    async def _renew(self) -> None:
        self._tried_s = self._ambient.monotonic_s()
        try:
            keys = KeySet(await self._fetch(self._url, bytes_max=SET_BYTES_MAX, timeout_s=FETCH_S))
        except (Unreachable, BadKeySet) as error:
            self.failed = True
            _log.warning("keys_not_fetched", url=self._url, reason=str(error), keys_kept=self.key_count)
            return
        self.failed = False
        self._keys, self._fetched_s = keys, self._ambient.monotonic_s()
        _log.info("keys_fetched", url=self._url, keys=len(keys), left_out=keys.left_out or None)
