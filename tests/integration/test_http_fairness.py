"""Requests over HTTP are paid for by their users, and wait for those that owe time."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from tests.support.worlds.people import ALICE
from tests.support.worlds.wire import http, until, world

STREAM = "user/42"
REQUESTS = {
    "page": ("GET", f"/streams/{STREAM}", None),
    "seen": ("GET", f"/seen?stream={STREAM}&seq=1&client=c", None),
    "acks": ("POST", "/acks", {"client": "c", "cursors": {STREAM: 1}}),
    "who": ("GET", "/who", None),
}


class Busy(FakeAmbient):
    """A clock on which whatever looks at it takes a microsecond."""

    def monotonic_s(self) -> float:
        self.advance(1e-6)
        return super().monotonic_s()


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_is_charged_to_its_user_and_waits_while_that_user_owes_time(name: str) -> None:
    method, path, body = REQUESTS[name]

    async with world(ambient=Busy()) as w, http(w) as c:
        turns, charged = w.server.turns, Counter[str]()
        charge = turns.shares.charge

        def noted(user: str, cost_s: float, now_s: float) -> None:
            charged[user] += cost_s > 0
            charge(user, cost_s, now_s)

        turns.shares.charge = noted  # type: ignore[method-assign]
        await w.append(STREAM, "a")
        assert (await c.request(method, path, json=body)).is_success
        assert charged[ALICE.name] > 1, "for making the answer and for sending it"
        assert turns.shares.slowed == 0, "the only user never waits"
        turns.charge("user/9", 0.001)
        turns.charge(ALICE.name, 0.2)
        asked = asyncio.create_task(c.request(method, path, json=body))
        await until(lambda: turns.shares.slowed > 0)
        assert not asked.done()
        w.ambient.advance(10)
        assert (await asked).is_success


async def test_a_request_is_charged_by_the_clock_that_pays_debts_off() -> None:
    async with world() as w, http(w) as c:
        for _ in range(20):
            assert (await c.get("/who")).is_success
        assert w.server.turns.shares.owed_s(ALICE.name) == 0, "no time passes on the service's clock"


async def test_a_request_that_waited_is_refused_if_its_token_was_revoked_meanwhile() -> None:
    async with world() as w, http(w) as c:
        turns = w.server.turns
        turns.charge("user/9", 0.001)
        turns.charge(ALICE.name, 0.2)
        asked = asyncio.create_task(c.post("/commands/note", json={"text": "a"}))
        await until(lambda: turns.paying.waiting(ALICE.name))
        await w.publisher.revoke(user_id=42)
        w.ambient.advance(10)
        refused = await asked
        assert (refused.status_code, refused.json()["code"]) == (401, "token_revoked")
        assert w.log.head(STREAM).seq == 0


async def test_a_service_that_stops_refuses_requests_that_wait_for_their_user_to_owe_less() -> None:
    async with world() as w, http(w) as c:
        turns = w.server.turns
        turns.charge("user/9", 0.001)
        turns.charge(ALICE.name, 2.0)
        asked = [asyncio.create_task(c.post("/commands/note", json={"text": "a"})) for _ in range(3)]
        await until(lambda: turns.paying.waiting(ALICE.name) == len(asked))
        w.api.close()
        asked.append(asyncio.create_task(c.get("/who")))
        refused = [await one for one in asked]
        assert [one.status_code for one in refused] == [503] * len(asked)
        assert (refused[0].json()["code"], turns.paying.waiting(ALICE.name)) == ("unavailable", 0)
        assert w.executed == 0


async def test_a_service_that_stops_refuses_requests_that_wait_for_a_turn_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with world() as w, http(w) as c:
        rounds = w.server.turns.rounds
        rounds.room.append(lambda owner: owner != ALICE.name)
        monkeypatch.setattr(rounds, "may_begin", lambda owner: owner != ALICE.name)
        asked = [asyncio.create_task(c.post("/commands/note", json={"text": "a"})) for _ in range(3)]
        await until(lambda: rounds.waiting == len(asked))
        w.api.close()
        refused = [await one for one in asked]
        assert [one.status_code for one in refused] == [503] * len(asked)
        assert (rounds.waiting, w.executed) == (0, 0)


@pytest.mark.parametrize("stream", [STREAM, "system"])
async def test_a_state_over_http_is_made_in_slices_for_who_asks(stream: str) -> None:
    async with world() as w, http(w) as c:
        slices, slice_ = Counter[str](), w.server.turns.slice

        async def counted(user: str, work: Any) -> Any:
            slices[user] += 1
            return await slice_(user, work)

        w.server.turns.slice = counted  # type: ignore[method-assign]
        await w.append(stream, "a")
        answer = await c.get(f"/streams/{stream}?after=snapshot")
        assert answer.json()["outcome"] == "snapshot"
        assert set(slices) == {ALICE.name}
        assert slices[ALICE.name] >= 3, "found in its frame, joined with the page, hashed"
