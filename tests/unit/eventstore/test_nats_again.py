"""How often an unanswered request is sent again: a new leader of the log hears of it soon."""

import asyncio
import contextlib
import itertools

import pytest

from huahuo.eventstore.sequencer import nats_link
from huahuo.eventstore.sequencer.nats import ANSWER_S
from huahuo.eventstore.sequencer.nats_link import AGAIN_S

FOR_S = 30.0


async def sent_at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When a request is sent, until nobody has answered for `FOR_S`."""
    now_s, sent = AGAIN_S, [0.0]  # the first time again is `AGAIN_S` after the request itself

    async def send() -> None:
        sent.append(now_s)

    async def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds
        if now_s > FOR_S:
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with contextlib.suppress(asyncio.CancelledError):
        await nats_link._again_and_again(send)  # noqa: SLF001  its pauses are what this is about
    return sent


async def test_while_a_proposal_waits_for_its_answer_no_pause_is_longer_than_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = [at for at in await sent_at(monkeypatch) if at < ANSWER_S]
    pauses = [later - earlier for earlier, later in itertools.pairwise([*sent, ANSWER_S])]
    assert max(pauses) <= AGAIN_S


async def test_a_server_that_is_silent_for_long_is_asked_few_times_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(await sent_at(monkeypatch)) <= 10
