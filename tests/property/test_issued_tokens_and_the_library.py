"""PyJWT's own front door and our key set agree about random tokens of RS256, ES256 and EdDSA, and mutations.

The deviations are those of `test_tokens_and_the_library`. Keys of another algorithm with the token's kid, and
public keys used as shared secrets, are among the forgeries.
"""

import json
import random
from typing import Any

import jwt
import pytest

from huahuo.transport.access.claims import ISSUED_BYTES_MAX, TokenError, parts_of
from huahuo.transport.accounts.issuer_keys import ALGORITHMS, KeySet
from tests.support.models.issuer import Pair, key_set, pair
from tests.support.proofs import WHOLE

PAIRS = tuple(
    pair(algorithm, f"{algorithm}-{number}", number) for algorithm in ALGORITHMS for number in (1, 2)
)
STRANGERS = tuple(pair(algorithm, f"{algorithm}-1", 3) for algorithm in ALGORITHMS)
LIBRARY = jwt.PyJWS()
KEYS = {one.kid: one for one in PAIRS}

CHARACTERS = [*"Aa09-_+/=.!", "", " ", "\n", "==", "é", "\x00"]
NAMES = ["alg", "typ", "kid", "crit", "b64", "jku", "jwk", "x5u"]
VALUES: list[Any] = [
    *ALGORITHMS,
    "HS256",
    "none",
    "RS384",
    "",
    1,
    None,
    True,
    [],
    ["b64"],
    {},
    "RS256-2",
    "ES256-1",
]
TOKENS = 2_000
"""In each seed. Twenty seeds with three algorithms are 120,000 tokens."""


def header(chance: random.Random, one: Pair) -> bytes:
    fields: dict[str, Any] = {"alg": one.algorithm, "typ": "JWT", "kid": one.kid}
    if chance.random() < 0.5:
        for _ in range(chance.randint(1, 3)):
            fields[chance.choice(NAMES)] = chance.choice(VALUES)
    if chance.random() < 0.1:
        del fields["alg"]
    text = json.dumps(fields, separators=chance.choice([(",", ":"), (", ", ": ")]))
    return chance.choice([text, text, text, f" {text}\n", text[:-1], f"[{text}]", text + "x"]).encode()


def made(chance: random.Random, algorithm: str) -> list[str]:
    """Signed tokens with all kinds of headers. Signing is slow, so each is changed in several ways."""
    texts = []
    for _ in range(TOKENS // 20):
        pairs = [one for one in (*PAIRS, *STRANGERS) if one.algorithm == algorithm]
        one = chance.choice(pairs)
        payload = chance.randbytes(chance.choice([0, 1, 2, 3, 40, 41, 42]))
        texts += [one.sign(payload, header(chance, one))] * 20
    return texts


def changed(chance: random.Random, text: str) -> str:
    if chance.random() < 0.6:
        return text + chance.choice(["", "", "", "=", "=="])
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(CHARACTERS) + text[at + chance.randint(0, 1) :]
    return text


def by_the_library(text: str) -> bytes | None:
    """The payload, or None where the library, or RFC 7515's rule for `crit`, refuses."""
    if len(text) > ISSUED_BYTES_MAX or not text.isascii():
        return None
    try:
        said = LIBRARY.get_unverified_header(text)
    except jwt.PyJWTError:
        return None
    if "crit" in said or said.get("b64", True) is not True:
        return None
    one = KEYS.get(said.get("kid")) if isinstance(said.get("kid"), str) else None
    if one is None:
        return None
    try:
        payload: bytes = LIBRARY.decode(text, one.private.public_key(), algorithms=[one.algorithm])
    except (jwt.PyJWTError, TypeError):
        return None
    return payload


def by_us(keys: KeySet, text: str) -> bytes | None:
    try:
        return keys.payload(parts_of(text, ISSUED_BYTES_MAX))
    except TokenError:
        return None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20 if WHOLE else 1))]
)
def test_the_library_and_the_key_set_accept_the_same_tokens_with_the_same_payload(
    seed: int, algorithm: str
) -> None:
    chance = random.Random(f"{algorithm} {seed}")
    keys = KeySet(key_set(*PAIRS))
    accepted = 0
    for text in made(chance, algorithm):
        given = changed(chance, text)
        expected = by_the_library(given)
        assert by_us(keys, given) == expected, given
        accepted += expected is not None
    assert TOKENS / 25 < accepted < TOKENS / 2, "both outcomes are frequent"
