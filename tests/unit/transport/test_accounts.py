"""Who judges which token, what the application's answers mean, and how claims of other issuers are read."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from huahuo.actors.domain.structs import Refused
from huahuo.actors.plugins.calls import Principal
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.transport.access.claims import OWN_NAMES, ClaimNames
from huahuo.transport.access.rights import AuthFailure, Verdict, Verified
from huahuo.transport.access.tokens import Authenticator
from huahuo.transport.accounts.accounts import (
    APPLICATION_TOKEN_CHARS_MAX,
    Accounts,
    AskApplication,
    AskRights,
    Authenticate,
    Issuer,
)
from huahuo.transport.accounts.issuer_keys import KeyServer
from tests.support.models.forged import NOW_MS, NOW_S, SECRET, forge
from tests.support.models.issuer import AUDIENCE, ISSUER, key_set, pair

ALICE = Principal("alice", "alice")
KEY = pair("ES256")


def asking(authenticate: Authenticate) -> Accounts:
    return Accounts(Authenticator(SECRET), application=AskApplication(authenticate))


def issued(
    names: ClaimNames = OWN_NAMES,
    issuer: str = ISSUER,
    audience: str = AUDIENCE,
    own: Authenticator | None = None,
) -> Accounts:
    async def fetch(url: str, *, bytes_max: int, timeout_s: float) -> bytes:
        return key_set(KEY)

    keys = KeyServer("https://issuer.example/keys", FakeAmbient(1), fetch)
    return Accounts(own or Authenticator(SECRET), issuer=Issuer(keys, names, issuer, audience))


async def judged(accounts: Accounts, token: str) -> Verdict:
    found = accounts.verify(token, NOW_MS)
    return found if isinstance(found, Verified | AuthFailure) else await found


async def principal(accounts: Accounts, token: str) -> Principal:
    verdict = await judged(accounts, token)
    assert isinstance(verdict, Verified), verdict
    return verdict.principal


async def failure(accounts: Accounts, token: str) -> tuple[str, str]:
    verdict = await judged(accounts, token)
    assert isinstance(verdict, AuthFailure), verdict
    return verdict.code, verdict.reason


@pytest.mark.parametrize("expires_at", [NOW_S, -1, datetime.fromtimestamp(NOW_S, UTC) - timedelta(days=1)])
async def test_a_user_whose_time_is_over_has_expired(expires_at: Any) -> None:
    code, _ = await failure(asking(lambda _token: Principal(1, expires_at=expires_at)), "t")
    assert code == "token_expired"


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        (Refused("token_expired"), "token_expired"),
        (Refused("token_revoked", "locked"), "token_revoked"),
        (Refused("locked", "canary: three wrong codes"), "token_invalid"),
    ],
)
@pytest.mark.parametrize("raised", [True, False])
async def test_a_refusal_has_its_code_and_its_reason_is_for_the_log(
    refused: Refused, code: str, *, raised: bool
) -> None:
    def authenticate(_token: str) -> Refused:
        if raised:
            raise refused
        return refused

    async def later(token: str) -> Refused:
        return authenticate(token)

    for one in (authenticate, later):
        found, reason = await failure(asking(one), "t")
        assert found == code
        assert refused.code in reason
        assert refused.message in reason


@pytest.mark.parametrize(
    "answer",
    [
        True, "alice", {"user_id": 1}, Principal("a b"), Principal(1, "x" * 257), Principal(1, "\ud800"),
        Principal(1, groups=("a b",)),
        Principal(1, groups=("g",) * 129), Principal(1, expires_at=datetime.fromtimestamp(NOW_S)),  # noqa: DTZ006
        Principal(1, expires_at="soon"), Principal(1, is_admin="yes"), Principal(1, username=7),  # type: ignore[arg-type]
        Principal(1, rights=("write",)), Principal(1, groups="ops"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
async def test_an_answer_that_cannot_be_says_nothing_about_the_token(answer: Any) -> None:
    code, reason = await failure(asking(lambda _token: answer), "t")
    assert (code, reason.startswith("authenticate() returned")) == ("unavailable", True)


async def test_a_fault_of_the_application_says_nothing_about_the_token() -> None:
    def broken(_token: str) -> None:
        raise RuntimeError("the database is gone")

    async def later(token: str) -> None:
        broken(token)

    for authenticate in (broken, later):
        assert (await failure(asking(authenticate), "t"))[0] == "unavailable"


@pytest.mark.virtual_time
async def test_an_application_that_hangs_is_given_up_after_its_deadline() -> None:
    async def hangs(_token: str) -> None:
        await asyncio.Event().wait()

    began_s = asyncio.get_running_loop().time()
    code, reason = await failure(asking(hangs), "t")
    assert (code, "within 5 s" in reason) == ("unavailable", True)
    assert asyncio.get_running_loop().time() - began_s == 5


async def test_an_empty_and_a_huge_token_never_reach_the_application() -> None:
    asked: list[str] = []

    def authenticate(token: str) -> Principal:
        asked.append(token)
        return ALICE

    for token in ("", "x" * (APPLICATION_TOKEN_CHARS_MAX + 1)):
        assert (await failure(asking(authenticate), token))[0] == "token_invalid"
    assert asked == []


# Who judges ----------------------------------------------------------------------------------------------


async def test_the_services_own_tokens_are_judged_by_the_secret_alone() -> None:
    accounts = asking(lambda _token: Principal("the-application"))
    own = Authenticator(SECRET)
    good = own.mint(Principal(42, "alice"), now_ms=NOW_MS, ttl_s=60, jti="j")
    old = own.mint(Principal(42, "alice"), now_ms=NOW_MS - 120_000, ttl_s=60, jti="j")
    assert (await principal(accounts, good)).user_id == 42
    assert (await failure(accounts, old))[0] == "token_expired"
    assert (await failure(accounts, forge(b"{}")))[0] == "token_invalid"
    assert (await principal(accounts, good[:-4] + "AAAA")).user_id == "the-application"
    assert (await principal(accounts, "a session of the application")).user_id == "the-application"


# Claims of an issuer -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"iss": "https://evil.example/"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"aud": "billing"}, "another audience"),
        ({"aud": ["billing"]}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"exp": None}, "do not fit"),
        ({"exp": "soon"}, "do not fit"),
        ({"nbf": NOW_S + 60}, "nbf"),
        ({"iat": NOW_S + 60}, "iat"),
        ({"sub": None}, "neither user_id nor sub"),
        ({"sub": "auth0|7f3a"}, "letters, digits"),
        ({"groups": [f"g{n}" for n in range(129)]}, "out of bounds"),
        ({"username": "ann\x1b[2J"}, "control characters"),
        ({"username": "ann\nroot"}, "control characters"),
        ({"jti": "a\x00"}, "control characters"),
    ],
)
async def test_a_claim_that_does_not_fit_refuses_the_token(claims: dict[str, Any], says: str) -> None:
    code, reason = await failure(issued(), KEY.token(**claims))
    assert (code, says in reason) == ("token_invalid", True), reason


@pytest.mark.parametrize(
    ("names", "claims"),
    [(ClaimNames(user="uid"), {"user_id": 7}), (ClaimNames(admin="staff"), {"staff": "true"})],
)
async def test_a_claim_that_is_named_has_no_substitute(names: ClaimNames, claims: dict[str, Any]) -> None:
    assert (await failure(issued(names), KEY.token(**claims)))[0] == "token_invalid"


async def test_tokens_of_the_secret_are_mapped_too_and_those_of_the_service_are_still_read() -> None:
    names = ClaimNames("uid", "roles", "role=root")
    own = Authenticator(SECRET, names=names)
    accounts = Accounts(own)
    theirs = forge(b'{"uid":"bob","roles":["ops"],"role":"root","exp":%d}' % (NOW_S + 60))
    assert await principal(accounts, theirs) == Principal("bob", "bob", is_admin=True, groups=("ops",))
    ours = own.mint(Principal(42, "alice", groups=("dev",)), now_ms=NOW_MS, ttl_s=60, jti="j")
    assert await principal(accounts, ours) == Principal(42, "alice", groups=("dev",), signed_in_ms=NOW_MS)


# Rights --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, 1, "yes", RuntimeError("gone"), asyncio.Event().wait])
@pytest.mark.virtual_time
async def test_a_right_that_cannot_be_judged_is_none(answer: Any) -> None:
    def authorize(_who: Principal, _stream: str, _right: str) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer() if isinstance(answer, Callable) else answer  # type: ignore[arg-type]

    assert await AskRights(authorize).may(ALICE, "room/1", "read") is False
