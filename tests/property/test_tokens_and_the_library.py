"""PyJWT's own front door, our verifier and our key set agree about random tokens, mutations and odd headers.

The one deviation: ours refuse headers that are JSON only for Python (NaN, UTF-16), `crit`, and a `b64` that
is not `true`. Keys of another algorithm with the token's kid, and public keys used as shared secrets, are
among the forgeries.
"""

import base64
import hashlib
import hmac
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jwt
import pytest

from huahuo.transport.access.claims import ISSUED_BYTES_MAX, TOKEN_BYTES_MAX, TokenError, parts_of
from huahuo.transport.access.tokens import Signer
from huahuo.transport.accounts.issuer_keys import ALGORITHMS, KeySet
from tests.support.models.issuer import key_set, pair
from tests.support.proofs import WHOLE

SECRETS = (b"canary-5ec7e7-0123456789-abcdefgh", b"canary-01d-5ec7e7-0123456789-abcdef")
STRANGER = b"x" * 32
PAIRS = tuple(
    pair(algorithm, f"{algorithm}-{number}", number) for algorithm in ALGORITHMS for number in (1, 2)
)
STRANGERS = tuple(pair(algorithm, f"{algorithm}-1", 3) for algorithm in ALGORITHMS)
KEYS = {one.kid: one for one in PAIRS}
LIBRARY = jwt.PyJWS()

CHARACTERS = [*"Aa09-_+/=.!", "", " ", "\n", "==", "é", "\x00"]
NAMES = ["alg", "typ", "kid", "crit", "b64", "jku", "jwk", "x5u", "x"]
VALUES: list[Any] = [
    *(*ALGORITHMS, "HS256", "HS384", "RS384", "none", "", "JWT", "Hs256", "RS256-2", "ES256-1"),
    *(1, None, True, [], ["b64"], ["x"], {}, ["HS256"]),
]
SIGNED, ISSUED = 6_000, 2_000
"""Tokens in each seed. All seeds, in `make check-all`: 120,000 of each kind."""


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def header(chance: random.Random, fields: dict[str, Any]) -> bytes:
    """Mostly a good header, in some order and spacing; else one with any names and values."""
    if chance.random() < 0.5:
        for _ in range(chance.randint(1, 3)):
            fields[chance.choice(NAMES)] = chance.choice(VALUES)
    if chance.random() < 0.1:
        fields.pop("alg")
    names = chance.sample(sorted(fields), len(fields))
    text = json.dumps(
        {name: fields[name] for name in names}, separators=chance.choice([(",", ":"), (", ", ": ")])
    )
    return chance.choice([text, text, text, f" {text}\n", text[:-1], f"[{text}]", text + "x"]).encode()


def payload(chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice([0, 1, 2, 3, 40, 41, 42]))


def changed(chance: random.Random, text: str) -> str:
    """Half of them in one to three places."""
    if chance.random() < 0.5:
        return text + chance.choice(["", "", "", "=", "=="])
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(CHARACTERS) + text[at + chance.randint(0, 1) :]
    return text


def signed(chance: random.Random) -> Iterator[str]:
    """Tokens of a shared secret."""
    for _ in range(SIGNED):
        padding = chance.choice([b"", b"", b"", b"=", b"==", b"==="])
        head = b64(header(chance, {"alg": "HS256", "typ": "JWT"}))
        data = head + b"." + b64(payload(chance)) + padding
        mac = hmac.digest(chance.choice([*SECRETS, STRANGER]), data, hashlib.sha256)
        yield changed(chance, (data + b"." + b64(mac)).decode())


def issued(chance: random.Random, algorithm: str) -> Iterator[str]:
    """Tokens of an issuer. Signing is slow, so each is changed in several ways."""
    pairs = [one for one in (*PAIRS, *STRANGERS) if one.algorithm == algorithm]
    for _ in range(ISSUED // 20):
        one = chance.choice(pairs)
        text = one.sign(payload(chance), header(chance, {"alg": algorithm, "typ": "JWT", "kid": one.kid}))
        for _ in range(20):
            yield changed(chance, text)


def by_the_library(text: str, keys: Callable[[Any], Sequence[tuple[Any, str]]], most: int) -> bytes | None:
    """The payload, or None where the library, or RFC 7515's rule for `crit`, refuses."""
    if len(text) > most or not text.isascii():
        return None
    try:
        said = LIBRARY.get_unverified_header(text)
    except jwt.PyJWTError:
        return None
    if "crit" in said or said.get("b64", True) is not True:
        return None
    for key, algorithm in keys(said.get("kid")):
        try:
            found: bytes = LIBRARY.decode(text, key, algorithms=[algorithm])
        except (jwt.PyJWTError, TypeError):
            continue
        return found
    return None


def by_us(read: Callable[[], bytes]) -> bytes | None:
    try:
        return read()
    except TokenError:
        return None


def seeds(short: int) -> list[Any]:
    more = range(1, 20 if WHOLE else short)
    return [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in more)]


@pytest.mark.parametrize("seed", seeds(5))
def test_the_library_and_the_verifier_accept_the_same_tokens_with_the_same_payload(seed: int) -> None:
    signer, accepted = Signer(SECRETS[0], SECRETS[1:]), 0
    for text in signed(random.Random(seed)):
        expected = by_the_library(text, lambda _: [(one, "HS256") for one in SECRETS], TOKEN_BYTES_MAX)
        assert by_us(lambda: signer.payload(text)) == expected, text  # noqa: B023
        accepted += expected is not None
    assert SIGNED / 25 < accepted < SIGNED / 2, "both outcomes are frequent"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("seed", seeds(1))
def test_the_library_and_the_key_set_accept_the_same_tokens_with_the_same_payload(
    seed: int, algorithm: str
) -> None:
    keys, accepted = KeySet(key_set(*PAIRS)), 0

    def known(kid: Any) -> list[tuple[Any, str]]:
        one = KEYS.get(kid) if isinstance(kid, str) else None
        return [] if one is None else [(one.private.public_key(), one.algorithm)]

    for text in issued(random.Random(f"{algorithm} {seed}"), algorithm):
        expected = by_the_library(text, known, ISSUED_BYTES_MAX)
        assert by_us(lambda: keys.payload(parts_of(text, ISSUED_BYTES_MAX))) == expected, text  # noqa: B023
        accepted += expected is not None
    assert ISSUED / 25 < accepted < ISSUED / 2, "both outcomes are frequent"
