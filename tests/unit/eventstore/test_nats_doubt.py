"""Whose word about the newest message of a JetStream stream counts: a leader's that has heard a majority."""

from typing import Any, cast

import pytest

from huahuo.eventstore.sequencer.address import LogAddress
from huahuo.eventstore.sequencer.nats_link import Link
from huahuo.eventstore.sequencer.nats_stream import look

SECOND = 1_000_000_000
ADDRESS = LogAddress("nats://a,b,c")


class Answers:
    """A server that says this of its cluster."""

    def __init__(self, cluster: dict[str, object]) -> None:
        self._cluster = cluster

    async def ask(self, _api: str) -> dict[str, object]:
        config = {"subjects": ["huahuo.proposals"], "storage": "file", "retention": "limits"}
        return {
            "config": config | {"discard": "new", "num_replicas": 3, "deny_delete": True},
            "created": "2026-01-01T00:00:00Z",
            "state": {"first_seq": 1, "last_seq": 2102},
            "cluster": {"name": "t"} | self._cluster,
        }


def other(name: str, heard_s: float, **more: Any) -> dict[str, object]:
    return {"name": name, "current": True, "active": int(heard_s * SECOND)} | more


@pytest.mark.parametrize(
    ("cluster", "doubt"),
    [
        ({"leader": "a", "replicas": [other("b", 0.1), other("c", 20)]}, ""),
        ({"leader": "a", "replicas": [other("b", 4), other("c", 20)]}, "not heard from a majority"),
        ({"leader": "a", "replicas": [other("b", 0.1, offline=True), other("c", 20)]}, "not heard from"),
        # Each server that asks for votes answers, and lists itself.
        ({"replicas": [other("a", 0), other("b", 0), other("c", 0)]}, "has no leader now"),
        ({"leader": "", "replicas": [other("a", 0), other("b", 4)]}, "has no leader now"),
    ],
)
async def test_only_a_leader_that_a_majority_has_just_answered_knows_the_newest_message(
    cluster: dict[str, object], doubt: str
) -> None:
    stream = await look(cast("Link", Answers(cluster)), ADDRESS)
    assert stream.last == 2102
    assert doubt in stream.doubt
    assert bool(stream.doubt) == bool(doubt)
