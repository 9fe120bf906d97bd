"""The keys of another issuer."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Awaitable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.transport.access.claims import ISSUED_BYTES_MAX, ClaimNames, TokenError, parts_of
from huahuo.transport.access.rights import AuthFailure, Verdict, Verified
from huahuo.transport.access.tokens import Authenticator
from huahuo.transport.accounts.accounts import Accounts, Issuer
from huahuo.transport.accounts.issuer_keys import (
    ALGORITHMS,
    FETCH_S,
    FRESH_S,
    KEYS_MAX,
    STALE_S,
    UNKNOWN_S,
    KeyServer,
    KeySet,
    UnknownKey,
)
from huahuo.transport.client.connection import Unreachable
from tests.support.models.forged import SECRET, b64
from tests.support.models.issuer import AUDIENCE, ISSUER, Pair, key_set, pair

PAYLOAD = b'{"sub":"alice"}'


def verdict(keys: KeySet, token: str) -> bytes | str:
    """The payload, or why it is refused."""
    try:
        return keys.payload(parts_of(token, ISSUED_BYTES_MAX))
    except UnknownKey:
        return "unknown"
    except TokenError as error:
        return str(error)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_of_another_pair_with_the_same_kid_is_refused(algorithm: str) -> None:
    keys = KeySet(key_set(pair(algorithm)))
    assert verdict(keys, pair(algorithm, number=2).sign(PAYLOAD)) == (
        "its signature does not fit the key of its kid"
    )


def test_a_token_without_kid_is_good_while_one_key_of_its_algorithm_is_there() -> None:
    first, second = pair("RS256", None), pair("RS256", "k2", 2)
    keys = KeySet(key_set(first, pair("ES256")))
    assert verdict(keys, first.sign(PAYLOAD)) == PAYLOAD
    both = KeySet(key_set(first, second))
    assert verdict(both, first.sign(PAYLOAD)) == "it has no kid, and the key set has 2 keys for RS256"


def test_the_public_key_used_as_a_shared_secret_verifies_nothing() -> None:
    one = pair("RS256")
    signed = f"{b64(json.dumps({'alg': 'HS256', 'kid': 'k1'}).encode())}.{b64(PAYLOAD)}"
    for secret in (one.pem, one.pem.strip(), json.dumps(one.jwk).encode()):
        forged = f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"
        assert "algorithm" in str(verdict(KeySet(key_set(one)), forged))


def test_a_token_without_a_signature_is_refused() -> None:
    one = pair("RS256")
    bare = one.sign(PAYLOAD).rpartition(".")[0] + "."
    assert verdict(KeySet(key_set(one)), bare) == "its signature does not fit the key of its kid"


def test_a_key_of_one_algorithm_verifies_no_other() -> None:
    rsa, curve = pair("RS256", "k1"), pair("ES256", "k2")
    keys = KeySet(key_set(rsa, curve))
    assert verdict(keys, curve.sign(PAYLOAD, {"alg": "RS256", "kid": "k2"})) == "unknown"
    assert verdict(keys, rsa.sign(PAYLOAD, {"alg": "ES256", "kid": "k1"})) == "unknown"


def test_a_kid_as_long_as_a_book_is_refused() -> None:
    token = pair("RS256").sign(PAYLOAD, {"alg": "RS256", "kid": "k" * 257})
    assert verdict(KeySet(key_set(pair("RS256"))), token) == "its kid is too long"


@pytest.mark.parametrize("extra", [{"crit": ["exp"]}, {"b64": False}, {"kid": 7}])
def test_a_header_that_asks_for_more_than_is_known_is_refused(extra: dict[str, Any]) -> None:
    token = pair("RS256").sign(PAYLOAD, {"alg": "RS256", "kid": "k1", **extra})
    assert not isinstance(verdict(KeySet(key_set(pair("RS256"))), token), bytes)


def test_a_huge_token_is_not_even_read() -> None:
    token = pair("RS256").sign(b"x" * ISSUED_BYTES_MAX)
    assert f"longer than {ISSUED_BYTES_MAX} bytes" in str(verdict(KeySet(key_set(pair("RS256"))), token))


def other(one: Pair, **members: Any) -> dict[str, Any]:
    return one.jwk | {"kid": "other"} | members


def _p384() -> dict[str, Any]:
    import jwt

    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    made: dict[str, Any] = jwt.PyJWS().get_algorithm_by_name("ES384").to_jwk(public, as_dict=True)
    return made | {"kid": "other"}


@pytest.mark.parametrize(
    ("jwk", "why"),
    [
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "other"}, "no public key of a kind"),
        (other(pair("RS256"), use="enc"), "not for signatures"),
        (other(pair("RS256"), key_ops=["encrypt"]), "not for verifying"),
        (other(pair("RS256"), key_ops=7), "not for verifying"),
        (other(pair("RS256"), alg="RS512"), "for another algorithm"),
        (other(pair("RS256"), d="AQAB"), "a private key"),
        (pair("RS256", "other", 3, 1024).jwk, "it has 1024 bits, not 2048 to 8192"),
        (other(pair("RS256"), n="!"), "cannot be read"),
        (other(pair("ES256"), x="AQAB"), "cannot be read"),
        (other(pair("EdDSA"), crv="Ed448"), "no public key of a kind"),
        (other(pair("EdDSA"), crv=["Ed25519"]), "no public key of a kind"),
        (_p384(), "no public key of a kind"),
    ],
)
def test_a_key_that_cannot_be_used_is_left_out_and_the_log_can_say_why(jwk: dict[str, Any], why: str) -> None:
    good = pair("RS256")
    keys = KeySet(json.dumps({"keys": [jwk, good.jwk, "no key", None]}).encode())
    assert why in keys.left_out["other"]
    assert len(keys) == 1
    assert verdict(keys, good.sign(PAYLOAD)) == PAYLOAD


def test_of_two_keys_with_one_kid_the_first_counts() -> None:
    first, second = pair("RS256"), pair("RS256", number=2)
    keys = KeySet(key_set(first, second))
    assert verdict(keys, first.sign(PAYLOAD)) == PAYLOAD
    assert verdict(keys, second.sign(PAYLOAD)) == "its signature does not fit the key of its kid"


def test_only_so_many_keys_of_a_set_are_read() -> None:
    late = pair("EdDSA", "late")
    jwks = [*({"kty": "oct"} for _ in range(KEYS_MAX - 1)), pair("RS256").jwk, late.jwk]
    assert verdict(KeySet(json.dumps({"keys": jwks}).encode()), late.sign(PAYLOAD)) == "unknown"


OLD, NEW = pair("ES256", "old"), pair("ES256", "new")


class World:
    """An issuer whose address answers, or does not, and a service that knows it."""

    def __init__(self, *pairs: Pair) -> None:
        self.ambient = FakeAmbient(1)
        self.answer: bytes | Exception = key_set(*pairs)
        self.fetches = 0
        self.gate: asyncio.Event | None = None
        self.keys = KeyServer("https://issuer.example/keys", self.ambient, self._fetch)
        issuer = Issuer(self.keys, ClaimNames(), ISSUER, AUDIENCE)
        self.accounts = Accounts(Authenticator(SECRET), issuer=issuer)

    async def _fetch(self, url: str, *, bytes_max: int, timeout_s: float) -> bytes:
        self.fetches += 1
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def verify(self, one: Pair) -> Verdict | Awaitable[Verdict]:
        now_ms = self.ambient.now_ms()
        return self.accounts.verify(one.token(exp=now_ms / 1000 + 60), now_ms)

    async def sign_in(self, one: Pair) -> str:
        found = self.verify(one)
        verdict = found if isinstance(found, Verified | AuthFailure) else await found
        return "ok" if isinstance(verdict, Verified) else verdict.code


async def test_unknown_kids_are_fetched_for_at_most_once_a_minute() -> None:
    w = World(OLD)
    await w.sign_in(OLD)
    for _ in range(50):
        assert await w.sign_in(NEW) == "token_invalid"
    assert w.fetches == 2
    w.ambient.advance(UNKNOWN_S)
    assert await w.sign_in(NEW) == "token_invalid"
    assert w.fetches == 3


async def test_a_token_of_another_algorithm_is_refused_without_asking_the_issuer() -> None:
    w = World(OLD)
    await w.sign_in(OLD)
    found = w.accounts.verify(OLD.token({"alg": "none", "kid": "x"}), w.ambient.now_ms())
    assert isinstance(found, AuthFailure)
    assert w.fetches == 1


async def test_old_keys_hold_while_the_address_does_not_answer() -> None:
    w = World(OLD)
    await w.sign_in(OLD)
    w.answer = Unreachable("down")
    w.ambient.advance(10 * STALE_S)
    for _ in range(3):
        assert await w.sign_in(OLD) == "ok"
        w.ambient.advance(STALE_S)
    assert w.fetches > 1


async def test_while_the_address_hangs_for_hours_only_the_first_sign_in_waits_for_it() -> None:
    w = World(OLD)
    await w.sign_in(OLD)
    w.ambient.advance(STALE_S)
    w.answer = Unreachable("it did not come within 5 s")
    assert await w.sign_in(OLD) == "ok"
    w.gate = asyncio.Event()
    w.ambient.advance(FETCH_S)
    assert isinstance(w.verify(OLD), Verified)
    await asyncio.sleep(0)
    assert w.fetches == 3, "meanwhile it is asked again"
    w.ambient.advance(FETCH_S)
    assert isinstance(w.verify(OLD), Verified)
    await w.keys.close()


async def test_an_answer_that_is_no_key_set_leaves_the_old_keys() -> None:
    w = World(OLD)
    await w.sign_in(OLD)
    w.answer = b"<html>maintenance</html>"
    w.ambient.advance(STALE_S)
    assert await w.sign_in(OLD) == "ok"


async def test_keys_are_renewed_in_the_background_and_nobody_waits_for_it() -> None:
    w = World(OLD)
    await w.sign_in(OLD)
    w.ambient.advance(FRESH_S)
    w.gate = asyncio.Event()
    assert isinstance(w.verify(OLD), Verified)
    w.gate.set()
    w.answer = key_set(NEW)
    await asyncio.sleep(0)
    await w.keys.fetched()
    assert isinstance(w.verify(NEW), Verified)


async def test_a_key_that_the_issuer_withdrew_long_ago_is_not_used_once_more() -> None:
    w = World(OLD)
    await w.sign_in(OLD)
    w.answer = key_set(NEW)
    w.ambient.advance(STALE_S)
    assert await w.sign_in(OLD) == "token_invalid"


async def test_without_any_keys_a_token_is_judged_later_and_not_called_invalid() -> None:
    w = World()
    w.answer = Unreachable("down")
    assert await w.sign_in(OLD) == "unavailable"
    assert await w.sign_in(OLD) == "unavailable"
    assert w.fetches == 1, "it is not asked again at once"
    w.answer = key_set(OLD)
    w.ambient.advance(FETCH_S)
    assert await w.sign_in(OLD) == "ok"


async def test_a_new_kid_while_the_address_does_not_answer_is_judged_later() -> None:
    w = World(OLD)
    await w.sign_in(OLD)
    w.answer = Unreachable("down")
    assert await w.sign_in(NEW) == "unavailable"


async def test_a_fetch_under_way_is_given_up_at_the_stop() -> None:
    w = World(OLD)
    w.gate = asyncio.Event()
    waiting = asyncio.ensure_future(w.keys.fetched())
    await asyncio.sleep(0)
    await w.keys.close()
    assert (await asyncio.gather(waiting, return_exceptions=True))[0] is not None
