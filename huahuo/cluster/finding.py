"""Finding the living nodes in the ordered log alone, for a node that has no replica yet.

Each of them says where it is every two seconds.
"""

import asyncio

import msgspec

from huahuo.cluster.beat import BEAT_S
from huahuo.cluster.members import Member, is_row_of
from huahuo.eventstore.model import RowPut
from huahuo.eventstore.replicated.proposal import Codec
from huahuo.eventstore.sequencer.port import Sequencer

LISTEN_S = 3 * BEAT_S


async def living(
    sequencer: Sequencer, codec: Codec, last: int, me: str, *, within_s: float = LISTEN_S
) -> dict[str, Member]:
    """The other nodes that say within this time that they live. Raises as `Sequencer.follow`."""
    found: dict[str, Member] = {}
    ordered = sequencer.follow(last)
    try:
        async with asyncio.timeout(within_s) as listening:
            async for one in ordered:
                proposal = codec.decode(one.proposal)
                for item in () if proposal is None else proposal.items:
                    for row in () if item.append is None else item.append.rows:
                        if isinstance(row, RowPut) and is_row_of(row) and row.key.decode() != me:
                            if not found:  # the others say so within the same time
                                listening.reschedule(asyncio.get_running_loop().time() + BEAT_S)
                            found[row.key.decode()] = msgspec.json.decode(row.value, type=Member)
    except TimeoutError:
        pass
    finally:
        await ordered.aclose()
    return {node: member for node, member in found.items() if member.url}
