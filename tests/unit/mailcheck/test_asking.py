"""Queries that wait for a mail server: two of each user at a time, and what is said if there is no answer."""

import asyncio
import json
from typing import Any

import pytest

from huahuo.actors.plugins.calls import Reply, json_reply
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.mailcheck import en, zh
from huahuo.mailcheck.api.contents import ASKING_AT_ONCE, Asking

ALICE, BOB = "user/1", "user/2"
FOUND = json_reply({"type": "folders"})


def said(reply: Reply) -> Any:
    return json.loads(reply.body)


async def found() -> Reply:
    return FOUND


async def test_a_third_query_of_a_user_is_refused_until_one_has_ended() -> None:
    asking = Asking(SystemAmbient(), zh.READING_ALREADY, en.READ_AT_ONCE)
    answers = asyncio.Event()

    async def slow() -> Reply:
        await answers.wait()
        return FOUND

    waiting = [asyncio.ensure_future(asking.answer(ALICE, slow)) for _ in range(ASKING_AT_ONCE)]
    await asyncio.sleep(0)
    refused = said(await asking.answer(ALICE, found))
    assert (refused["code"], refused["details"]) == ("busy", "2 are read at once")
    assert await asking.answer(BOB, found) is FOUND
    answers.set()
    assert await asyncio.gather(*waiting) == [FOUND] * ASKING_AT_ONCE
    assert await asking.answer(ALICE, found) is FOUND


@pytest.mark.virtual_time
async def test_a_server_that_is_silent_is_given_up() -> None:
    asking = Asking(SystemAmbient(), zh.ASKING_ALREADY, en.SERVERS_AT_ONCE)

    async def silent() -> Reply:
        await asyncio.Event().wait()
        return FOUND

    refused = said(await asking.answer(ALICE, silent))
    assert (refused["code"], refused["message"]) == ("unavailable", zh.SERVER_TOO_SLOW)
    assert await asking.answer(ALICE, found) is FOUND
