"""When the keys of an issuer are fetched, and which ones hold meanwhile."""

import asyncio
from collections.abc import Awaitable

from huahuo.actors.plugins.calls import Principal
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.transport.access.claims import ClaimNames
from huahuo.transport.access.rights import AuthFailure, Verdict, Verified
from huahuo.transport.access.tokens import Authenticator
from huahuo.transport.accounts.accounts import Accounts, Issuer
from huahuo.transport.accounts.issuer_keys import FETCH_S, FRESH_S, STALE_S, UNKNOWN_S, KeyServer
from huahuo.transport.client.connection import Unreachable
from tests.support.models.forged import SECRET
from tests.support.models.issuer import AUDIENCE, ISSUER, Pair, key_set, pair

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


async def test_the_first_token_fetches_the_keys_and_later_ones_wait_for_nothing() -> None:
    w = World(OLD)
    assert await w.sign_in(OLD) == "ok"
    assert isinstance(w.verify(OLD), Verified)
    assert w.fetches == 1


async def test_a_hundred_first_tokens_fetch_once() -> None:
    w = World(OLD)
    assert await asyncio.gather(*(w.sign_in(OLD) for _ in range(100))) == ["ok"] * 100
    assert w.fetches == 1


async def test_a_key_that_is_new_at_the_issuer_is_good_at_once() -> None:
    w = World(OLD)
    await w.sign_in(OLD)
    w.answer = key_set(OLD, NEW)
    assert await w.sign_in(NEW) == "ok"
    assert await w.sign_in(OLD) == "ok"
    assert w.fetches == 2


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


async def test_tokens_of_the_shared_secret_need_no_keys() -> None:
    w = World()
    now_ms = w.ambient.now_ms()
    own = Authenticator(SECRET).mint(Principal(42, "alice"), now_ms=now_ms, ttl_s=60, jti="j")
    assert isinstance(w.accounts.verify(own, now_ms), Verified)
    assert w.fetches == 0


async def test_a_fetch_under_way_is_given_up_at_the_stop() -> None:
    w = World(OLD)
    w.gate = asyncio.Event()
    waiting = asyncio.ensure_future(w.keys.fetched())
    await asyncio.sleep(0)
    await w.keys.close()
    assert (await asyncio.gather(waiting, return_exceptions=True))[0] is not None
