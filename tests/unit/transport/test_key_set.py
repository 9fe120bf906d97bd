"""Which keys of a JWKS are used, and which tokens they verify."""

import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from huahuo.transport.access.claims import ISSUED_BYTES_MAX, TokenError, parts_of
from huahuo.transport.accounts.issuer_keys import ALGORITHMS, KEYS_MAX, BadKeySet, KeySet, UnknownKey
from tests.support.models.forged import b64
from tests.support.models.issuer import Pair, key_set, pair

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
def test_a_token_of_each_algorithm_verifies(algorithm: str) -> None:
    one = pair(algorithm)
    assert verdict(KeySet(key_set(one)), one.sign(PAYLOAD)) == PAYLOAD


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


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "", "HS256", "RS384", "PS256", "ES384", "EdDSA ", 7, None]
)
def test_an_algorithm_that_is_not_offered_is_refused(algorithm: object) -> None:
    one = pair("RS256")
    assert "algorithm" in str(
        verdict(KeySet(key_set(one)), one.sign(PAYLOAD, {"alg": algorithm, "kid": "k1"}))
    )


def test_a_token_without_a_signature_is_refused() -> None:
    one = pair("RS256")
    bare = one.sign(PAYLOAD).rpartition(".")[0] + "."
    assert verdict(KeySet(key_set(one)), bare) == "its signature does not fit the key of its kid"


def test_a_key_of_one_algorithm_verifies_no_other() -> None:
    rsa, curve = pair("RS256", "k1"), pair("ES256", "k2")
    keys = KeySet(key_set(rsa, curve))
    assert verdict(keys, curve.sign(PAYLOAD, {"alg": "RS256", "kid": "k2"})) == "unknown"
    assert verdict(keys, rsa.sign(PAYLOAD, {"alg": "ES256", "kid": "k1"})) == "unknown"


@pytest.mark.parametrize("header", ["jku", "x5u", "jwk", "x5c"])
def test_a_header_that_brings_or_names_a_key_is_not_followed(header: str) -> None:
    stranger = pair("RS256", number=2)
    brought: Any = stranger.jwk if header == "jwk" else "https://evil.example/keys"
    token = stranger.sign(PAYLOAD, {"alg": "RS256", "kid": "k1", header: brought})
    assert verdict(KeySet(key_set(pair("RS256"))), token) == "its signature does not fit the key of its kid"


def test_an_unknown_kid_is_told_from_a_wrong_signature() -> None:
    assert verdict(KeySet(key_set(pair("RS256"))), pair("RS256", "k9").sign(PAYLOAD)) == "unknown"


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


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"keys":{}}',
        b'{"keys":[]}',
        b"\xff",
        b"[" * 100_000,
        b'{"keys":[{"kty":"oct"}]}',
    ],
)
def test_what_is_no_set_of_usable_keys_is_refused_whole(text: bytes) -> None:
    with pytest.raises(BadKeySet):
        KeySet(text)
