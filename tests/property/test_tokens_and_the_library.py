"""PyJWT's own front door and our verifier agree about random tokens, mutated tokens and odd headers.

The one deviation: our verifier refuses headers that are JSON only for Python (NaN, UTF-16), and a `b64`
that is not `true`.
"""

import base64
import hashlib
import hmac
import json
import random
from typing import Any

import jwt
import pytest

from huahuo.transport.access.claims import TOKEN_BYTES_MAX, TokenError
from huahuo.transport.access.tokens import Signer
from tests.support.proofs import WHOLE

SECRETS = (b"canary-5ec7e7-0123456789-abcdefgh", b"canary-01d-5ec7e7-0123456789-abcdef")
STRANGER = b"x" * 32
LIBRARY = jwt.PyJWS()

CHARACTERS = [*"Aa09-_+/=.!", "", " ", "\n", "==", "é", "\x00"]
NAMES = ["alg", "typ", "kid", "crit", "b64", "jku", "x"]
VALUES: list[Any] = [
    "HS256",
    "HS384",
    "none",
    "",
    "JWT",
    1,
    None,
    True,
    [],
    ["b64"],
    ["x"],
    {},
    "Hs256",
    ["HS256"],
]


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def header(chance: random.Random) -> bytes:
    """Mostly a good header, in some order and spacing; else one with any names and values."""
    fields: dict[str, Any] = {"alg": "HS256", "typ": "JWT"}
    if chance.random() < 0.5:
        for _ in range(chance.randint(1, 3)):
            fields[chance.choice(NAMES)] = chance.choice(VALUES)
    if chance.random() < 0.1:
        del fields["alg"]
    names = chance.sample(sorted(fields), len(fields))
    text = json.dumps(
        {name: fields[name] for name in names}, separators=chance.choice([(",", ":"), (", ", ": ")])
    )
    return chance.choice([text, text, text, f" {text}\n", text[:-1], f"[{text}]", text + "x"]).encode()


def token(chance: random.Random) -> str:
    """A signed token, of which half are changed in one to three places."""
    payload = chance.randbytes(chance.choice([0, 1, 2, 3, 40, 41, 42]))
    padding = chance.choice([b"", b"", b"", b"=", b"==", b"==="])
    signed = b64(header(chance)) + b"." + b64(payload) + padding
    mac = hmac.digest(chance.choice([*SECRETS, STRANGER]), signed, hashlib.sha256)
    text = (signed + b"." + b64(mac) + chance.choice([b"", b"", b"=", b"=="])).decode()
    if chance.random() < 0.5:
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(text))
            text = text[:at] + chance.choice(CHARACTERS) + text[at + chance.randint(0, 1) :]
    return text


def by_the_library(text: str) -> bytes | None:
    """The payload, or None where the library or RFC 7515's rule for `crit` refuses."""
    if len(text) > TOKEN_BYTES_MAX or not text.isascii():
        return None
    for secret in SECRETS:
        try:
            whole = LIBRARY.decode_complete(text, secret, algorithms=["HS256"])
        except jwt.PyJWTError:
            continue
        if "crit" in whole["header"] or whole["header"].get("b64", True) is not True:
            return None
        payload: bytes = whole["payload"]
        return payload
    return None


def by_us(signer: Signer, text: str) -> bytes | None:
    try:
        return signer.payload(text)
    except TokenError:
        return None


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 20 if WHOLE else 5))]
)
def test_the_library_and_the_verifier_accept_the_same_tokens_with_the_same_payload(seed: int) -> None:
    """All seeds, in `make check-all`: 120,000 tokens."""
    tokens = 6_000
    chance = random.Random(seed)
    signer = Signer(SECRETS[0], SECRETS[1:])
    accepted = 0
    for _ in range(tokens):
        text = token(chance)
        expected = by_the_library(text)
        assert by_us(signer, text) == expected, text
        accepted += expected is not None
    assert tokens / 25 < accepted < tokens / 2, "both outcomes are frequent"
