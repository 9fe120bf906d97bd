"""One snapshot of a stream from the snapshots of several plug-ins."""

import asyncio
import json

import pytest

from huahuo.actors.entities.decider import Busy
from huahuo.actors.plugins.actions import SnapshotOf
from huahuo.actors.plugins.calls import Parted
from huahuo.actors.plugins.registration import Merged, merged
from huahuo.transport.protocol.kinds import Assembly


def source(seqs: list[int], state: bytes) -> SnapshotOf:
    """Answers with the next of `seqs`, then with the last one."""

    async def of(_stream: str) -> tuple[int, bytes | Parted]:
        return (seqs.pop(0) if len(seqs) > 1 else seqs[0]), state

    return of


async def nothing(_stream: str) -> tuple[int, bytes | Parted]:
    return 3, b"{}"


def asked(of: SnapshotOf) -> tuple[int, bytes | Parted]:
    async def ask() -> tuple[int, bytes | Parted]:
        return await of("user/1")

    return asyncio.run(ask())


def text(state: bytes | Parted) -> object:
    return json.loads(state if isinstance(state, bytes) else b"".join(state.pieces()))


def test_several_sources_are_merged_by_key() -> None:
    seq, state = asked(merged([source([7], b'{"a":[1,2]}'), source([7], b'{"b":{}}')], nothing))
    assert (seq, text(state)) == (7, {"a": [1, 2], "b": {}})


def test_a_stream_that_never_rests_is_answered_busy() -> None:
    with pytest.raises(Busy, match="user/1"):
        asked(merged([source([1], b"{}"), source([2], b"{}")], nothing))


def test_the_parts_of_a_merged_state_make_its_text() -> None:
    state = Merged([b'{"a":1}', b"{}", b'{"b":[2]}'])
    assembly, number = Assembly(), 0
    following: int | None = 0
    while following is not None:
        number += 1
        part, following = state.part(following, 10)
        assert assembly.add(json.loads(part), number, len(part))
    assert assembly.whole == text(state) == {"a": 1, "b": [2]}
