"""Tokens that are accepted and refused: the advice of RFC 8725 and the promises of PROTOCOL 3.1."""

import json
import math
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from huahuo.actors.plugins.calls import Principal
from huahuo.transport.access.claims import LOG_AHEAD_MS_MAX, among_nodes
from huahuo.transport.access.rights import AuthFailure, Verified
from huahuo.transport.access.tokens import Authenticator
from huahuo.transport.protocol.codes import AuthCode
from tests.support.models.forged import GOOD, NOW_MS, NOW_S, SECRET, b64, forge, revocation, revoked

OLD = b"canary-01d-5ec7e7-0123456789-abcdef"
ALICE = Principal(user_id=42, username="alice", groups=("ops", "dev"))


def token(**claims: Any) -> str:
    return forge(json.dumps({**GOOD, **claims}).encode())


def verify(text: str, now_ms: int = NOW_MS) -> Verified | AuthFailure:
    return Authenticator(SECRET).verify(text, now_ms)


def code(text: str, now_ms: int = NOW_MS) -> str:
    result = verify(text, now_ms)
    return result.code if isinstance(result, AuthFailure) else "ok"


def principal(text: str) -> Principal:
    result = verify(text)
    assert isinstance(result, Verified), result
    return result.principal


def test_a_minted_token_is_an_ordinary_jwt() -> None:
    text = Authenticator(SECRET).mint(ALICE, now_ms=NOW_MS, ttl_s=60, jti="j1")
    claims = jwt.decode(
        text, SECRET, algorithms=["HS256"], options={"verify_exp": False, "verify_iat": False}
    )
    assert claims["user_id"] == 42
    assert claims["groups"] == ["ops", "dev"]


def test_a_token_of_another_issuer_with_the_same_secret_verifies() -> None:
    text = jwt.encode({**GOOD, "is_admin": 1}, SECRET, algorithm="HS256")
    assert principal(text) == Principal(user_id=42, username="alice", is_admin=True)


@pytest.mark.parametrize("given", [2, -1, "true", "1", None, [], 1.0])
def test_is_admin_of_any_other_form_is_refused(given: object) -> None:
    assert code(token(is_admin=given)) == "token_invalid"


@pytest.mark.parametrize(
    "user_id",
    [True, 42.5, None, [], 2**53, -(2**53), 10**30, -(10**30), "", ".", "..", "a b", "a/b", "ä", "x" * 65],
)
def test_a_user_id_that_is_neither_a_small_integer_nor_a_short_plain_text_is_refused(user_id: object) -> None:
    assert code(token(user_id=user_id)) == "token_invalid"


@pytest.mark.parametrize("user_id", ["alice", "alice@example.com", "x" * 64, "007", "-0", "9" * 16, "+42"])
def test_a_text_is_a_user_id_of_its_own(user_id: str) -> None:
    assert principal(token(user_id=user_id)).user_id == user_id


@pytest.mark.parametrize(("text", "number"), [("42", 42), ("-7", -7), ("0", 0), (str(2**53 - 1), 2**53 - 1)])
def test_a_text_that_spells_an_integer_is_that_user_and_is_told_back_as_it_came(
    text: str, number: int
) -> None:
    found = verify(token(user_id=text))
    assert isinstance(found, Verified)
    assert (found.principal.user_id, found.principal.name, found.told_id) == (number, f"user/{number}", text)


@pytest.mark.parametrize("username", ["", "x" * 257, 7])
def test_a_username_without_bounds_is_refused(username: object) -> None:
    assert code(token(username=username)) == "token_invalid"


@pytest.mark.parametrize(
    "groups", ["ops", ["a b"], ["a/b"], ["*"], [""], ["x" * 65], [7], [None], ["小组"], ["a\n"], None]
)
def test_groups_are_names_of_the_protocol_or_the_token_is_refused(groups: object) -> None:
    assert code(token(groups=groups)) == "token_invalid"


def test_more_groups_than_the_bound_are_refused() -> None:
    assert code(token(groups=[str(n) for n in range(129)])) == "token_invalid"


@pytest.mark.parametrize("jti", [7, None, ["x"], "x" * 129])
def test_a_jti_that_is_no_bounded_text_is_refused(jti: object) -> None:
    assert code(token(jti=jti)) == "token_invalid"


def test_at_its_expiry_a_token_is_expired() -> None:
    text = token(exp=NOW_S + 1)
    assert code(text, NOW_MS + 999) == "ok"
    assert code(text, NOW_MS + 1000) == "token_expired"


@pytest.mark.parametrize(
    "exp", ["1790000060", "soon", None, True, [], -1, 10**12, 10**300, 10**400], ids=lambda exp: repr(exp)[:9]
)
def test_an_expiry_that_names_no_moment_is_refused(exp: object) -> None:
    assert code(token(exp=exp)) == "token_invalid"


def test_an_expiry_that_overflows_a_float_is_refused() -> None:
    assert code(forge(b'{"user_id":42,"username":"a","exp":1e999}')) == "token_invalid"


def test_a_token_that_does_not_hold_yet_is_refused() -> None:
    text = token(nbf=NOW_S + 30)
    assert code(text) == "token_invalid"
    assert code(text, NOW_MS + 24_999) == "token_invalid"
    assert code(text, NOW_MS + 25_000) == "ok", "as of iat, five seconds are forgiven"


@pytest.mark.parametrize("nbf", ["now", math.nan, -1, []])
def test_an_nbf_that_names_no_moment_is_refused(nbf: object) -> None:
    assert code(token(nbf=nbf)) == "token_invalid"


def test_a_token_from_the_future_is_refused_beyond_a_clocks_skew() -> None:
    assert code(token(iat=NOW_S + 5)) == "ok"
    assert code(token(iat=NOW_S + 6)) == "token_invalid"


def test_what_the_time_of_all_nodes_has_reached_does_not_lie_in_the_future() -> None:
    log_ms = NOW_MS + 300_000
    behind = Authenticator(SECRET, latest_ms=among_nodes(lambda: log_ms))
    assert isinstance(behind.verify(token(iat=NOW_S + 300, nbf=NOW_S + 300), NOW_MS), Verified)
    assert isinstance(behind.verify(token(iat=NOW_S + 306), NOW_MS), AuthFailure)
    log_ms += 30 * 86_400_000
    beyond = behind.verify(token(iat=NOW_S + LOG_AHEAD_MS_MAX // 1000 + 6), NOW_MS)
    assert isinstance(beyond, AuthFailure), "the leeway is bounded"
    ended = behind.verify(token(exp=NOW_S + 1), NOW_MS)
    assert isinstance(ended, Verified), "this machine's clock says when a token ends"


def test_the_algorithm_none_is_refused() -> None:
    for name in ("none", "None", "NONE", ""):
        unsigned = f"{b64(json.dumps({'alg': name}).encode())}.{b64(json.dumps(GOOD).encode())}."
        assert code(unsigned) == "token_invalid"


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_another_hash_is_refused_even_with_the_right_secret(algorithm: str) -> None:
    text = jwt.encode(GOOD, SECRET * 2, algorithm=algorithm)
    refused = Authenticator(SECRET * 2).verify(text, NOW_MS)
    assert isinstance(refused, AuthFailure)
    assert refused.code == AuthCode.TOKEN_INVALID


def test_a_public_key_used_as_secret_opens_nothing() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert code(forge(json.dumps(GOOD).encode(), secret=public)) == "token_invalid"
    assert code(jwt.encode(GOOD, key, algorithm="RS256")) == "token_invalid"


@pytest.mark.parametrize(
    "extra",
    [
        {"crit": ["x"], "x": 1},
        {"crit": []},
        {"crit": "x"},
        {"crit": ["b64"], "b64": False},
        {"crit": ["b64"]},
    ],
)
def test_a_token_that_relies_on_a_critical_extension_is_refused(extra: dict[str, Any]) -> None:
    text = forge(json.dumps(GOOD).encode(), {"alg": "HS256", **extra})
    assert code(text) == "token_invalid"


def test_headers_that_name_a_key_change_nothing() -> None:
    header = {
        "alg": "HS256",
        "kid": "../../etc/passwd",
        "jku": "http://127.0.0.1:1/",
        "x5u": "http://127.0.0.1:1/",
    }
    assert code(forge(json.dumps(GOOD).encode(), header)) == "ok"
    assert code(forge(json.dumps(GOOD).encode(), header, secret=b"x" * 32)) == "token_invalid"


def test_more_than_four_kilobytes_are_refused_before_parsing() -> None:
    text = token(pad="x" * 4096)
    assert len(text) > 4096
    assert code(text) == "token_invalid"


@pytest.mark.parametrize("text", ["", ".", "..", "...", "a.b.c", "é.é.é", "\ud800", " ", "a" * 4096])
def test_text_that_is_no_token_is_refused(text: str) -> None:
    assert code(text) == "token_invalid"


def test_a_previous_secret_still_verifies_and_no_longer_signs() -> None:
    rotated = Authenticator(SECRET, previous=[OLD])
    before = Authenticator(OLD).mint(ALICE, now_ms=NOW_MS, ttl_s=60, jti="j")
    assert isinstance(rotated.verify(before, NOW_MS), Verified)
    after = rotated.mint(ALICE, now_ms=NOW_MS, ttl_s=60, jti="j")
    assert isinstance(Authenticator(OLD).verify(after, NOW_MS), AuthFailure)


@pytest.mark.parametrize("secrets", [(b"x" * 31, ()), (SECRET, (b"short",)), (b"", ())])
def test_a_short_secret_is_refused_with_what_to_do(secrets: tuple[bytes, tuple[bytes, ...]]) -> None:
    with pytest.raises(ValueError, match="at least 32"):
        Authenticator(secrets[0], previous=secrets[1])


@pytest.mark.parametrize("place", ["secret", "previous"])
def test_half_of_a_key_pair_is_refused_as_a_secret(place: str) -> None:
    """Anyone with the public key could sign tokens. The library refuses such a secret only at each token."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    public = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ValueError, match="public key"):
        Authenticator(*((public,) if place == "secret" else (SECRET,)), previous=[public, OLD])


def test_no_secret_and_no_token_shows_in_repr_or_failure() -> None:
    auth = Authenticator(SECRET, previous=[OLD])
    text = token(user_id="canary!")
    shown = repr(auth) + str(auth) + repr(auth.verify(text, NOW_MS))
    assert "canary" not in shown
    assert text not in shown


def outcome(auth: Authenticator, text: str, now_ms: int = NOW_MS) -> str:
    result = auth.verify(text, now_ms)
    return result.code if isinstance(result, AuthFailure) else "ok"


def test_the_next_revocation_ends_every_token_that_is_as_new_as_the_last_one() -> None:
    hour_ago_ms = NOW_MS - 3_600_000
    for newer_ms in (1, 1_000, 3_000, 5_001):
        auth = revoked({"user_id": 42})
        text = auth.mint(ALICE, now_ms=hour_ago_ms, ttl_s=60, jti="j", issue_ms=NOW_MS + newer_ms)
        before = outcome(auth, text, hour_ago_ms)
        auth.revocations.apply(revocation({"user_id": 42}, hour_ago_ms + 1_000))
        after = outcome(auth, text, hour_ago_ms + 2_000)
        assert (before, after) in {("ok", "token_revoked"), ("token_invalid", "token_invalid")}, newer_ms


def test_a_token_by_a_clock_that_is_known_to_be_ahead_ends_with_its_users_revocation() -> None:
    auth = Authenticator(SECRET, latest_ms=among_nodes(lambda: 0, lambda: NOW_MS - 3_600_000))
    text = auth.mint(ALICE, now_ms=NOW_MS, ttl_s=60, jti="j")
    assert outcome(auth, text) == "ok"
    auth.revocations.apply(revocation({"user_id": 42}, auth.latest_ms(NOW_MS)))
    assert outcome(auth, text) != "ok"


def test_a_revocation_covers_a_user_who_was_asked_about_before_it() -> None:
    auth = revoked({"user_id": 42})
    issue_ms = auth.asked_from(NOW_MS)
    assert issue_ms(42) == NOW_MS + 1
    auth.revocations.apply(revocation({"user_id": 42}, NOW_MS))
    assert auth.revocations.covers(42, "", issue_ms(42))
    assert not auth.revocations.covers(42, "", auth.asked_from(NOW_MS)(42))


def test_a_revocation_by_a_clock_behind_covers_a_user_who_was_asked_about_before_it() -> None:
    auth = Authenticator(SECRET)
    issue_ms = auth.asked_from(NOW_MS)
    auth.revocations.apply(revocation({"user_id": 42}, NOW_MS - 3_600_000))
    assert auth.revocations.covers(42, "", issue_ms(42))


def test_a_user_with_a_text_id_is_revoked_by_it() -> None:
    assert outcome(revoked({"user_id": "alice"}), token(user_id="alice")) == "token_revoked"
    assert outcome(revoked({"user_id": "alice"}), token(user_id="alicia")) == "ok"
    assert outcome(revoked({"user_id": "42"}), token(user_id=42)) == "token_revoked"


def test_a_revoked_users_token_without_iat_is_refused() -> None:
    assert outcome(revoked({"user_id": 42}), token()) == "token_revoked"


def test_a_revoked_jti_is_refused_and_another_is_not() -> None:
    auth = revoked({"jti": "bad"})
    assert outcome(auth, token(jti="bad")) == "token_revoked"
    assert outcome(auth, token(jti="good")) == "ok"
    assert outcome(auth, token()) == "ok"


def test_an_expired_token_is_called_expired_also_when_it_is_revoked() -> None:
    assert outcome(revoked({"jti": "bad"}), token(jti="bad", exp=NOW_S - 1)) == "token_expired"


def twisted(text: str) -> list[str]:
    """Variants of a valid token: each differs in one character or in its form."""
    head, payload, signature = text.split(".")
    found = [
        text[:at] + instead + text[at + 1 :]
        for at in range(len(text))
        for instead in ("A", "B", "_", "-", "+", "=", ".", "")
    ]
    found += [f"{text}{end}" for end in ("=", "==", ".", " ", "\n", "A", "AA")]
    found += [f"{head}.{payload}{pad}.{signature}" for pad in ("=", "==", "A", "\n")]
    return [*found, f".{text}", f"{head}..{signature}", f"{head}.{payload}.", f"{payload}.{head}.{signature}"]


@pytest.mark.parametrize("header", [{"alg": "HS256", "typ": "JWT"}, {"typ": "JWT", "alg": "HS256"}])
def test_the_variants_of_a_token_that_the_library_accepts_are_accepted_and_no_others(
    header: dict[str, Any],
) -> None:
    body = json.dumps({**GOOD, "username": "ü>?~"}, ensure_ascii=False, separators=(",", ":")).encode()
    compact = json.dumps(header, separators=(",", ":")).encode()
    good = forge(body, compact)
    assert code(good) == "ok"
    accepted = 0
    for text in twisted(good):
        try:
            jwt.PyJWS().decode_complete(text, SECRET, algorithms=["HS256"])
        except jwt.PyJWTError:
            expected = "token_invalid"
        else:
            expected = "ok"
            accepted += 1
        assert code(text) == expected, text
    assert accepted, "some of them are the token itself"
