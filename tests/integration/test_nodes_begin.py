"""A node that starts: the others know of it before it listens, and say nothing of it then."""

import asyncio

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from huahuo.cluster import shared_facts
from huahuo.cluster.shared_facts import Telling, Told
from huahuo.eventstore.ambient import FakeAmbient
from tests.support.patience import WITHIN_S
from tests.support.worlds.neighbours import neighbours


async def test_a_node_that_does_not_listen_yet_is_told_later_and_not_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_facts, "AGAIN_S", 0.0)
    clock = FakeAmbient()
    async with neighbours({"a": clock, "b": clock}) as [a, b]:
        here, there = (Telling(one.peers, clock, lambda _user, _client: None) for one in (a, b))
        listening = a.members["b"]
        a.members["b"] = replace(listening, url="")
        failed, often = [0], asyncio.Event()
        fails = here.presence.failed

        def failed_again(node: str, told: Told) -> None:
            fails(node, told)
            failed[0] += 1
            if failed[0] == 3:
                often.set()

        monkeypatch.setattr(here.presence, "failed", failed_again)
        with capture_logs() as said:
            here.start()
            async with asyncio.timeout(WITHIN_S):
                await often.wait()
                here.joined(7, "dev")
                a.members["b"] = listening
                while not there.count(7, ""):  # noqa: ASYNC110  a probe of another node
                    await asyncio.sleep(0.01)
        assert [one for one in said if one["event"] == "node_not_told"] == []
        await here.stop()
        await there.stop()
