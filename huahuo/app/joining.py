"""A node that joins by a copy: one that is new, or was away for longer than the ordered log keeps.

An empty directory can also follow from the first proposal, if the ordered log still has it. That is slower:
it is the way for short logs, and where no other node lives.
"""

import asyncio
from typing import Final

import structlog

from huahuo.app.config import Settings
from huahuo.app.keys import Keys
from huahuo.app.waiting_room import WaitingRoom
from huahuo.cluster import finding, signing
from huahuo.cluster.asking import Asker
from huahuo.cluster.fetching import NoCopy, fetch
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.cancelling import cancel_all
from huahuo.eventstore.core.seal import derive
from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.replicated.opening import HELD_S, Held, find_beginning
from huahuo.eventstore.replicated.proposal import Codec
from huahuo.eventstore.replicated.same_order import SameOrder
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sequencer.port import Misconfigured, Sequencer, Trimmed, Unreachable
from huahuo.eventstore.sqlite.replica import held_in

COPY_FROM: Final = 1_000
"""Proposals from which on a copy is faster than following."""
AGAIN_S: Final = 2.0
TELL_S: Final = 0.25
_log = structlog.get_logger(__name__)


async def join(
    settings: Settings, secrets: Keys, ambient: Ambient, sequencer: Sequencer, node: str, room: WaitingRoom
) -> None:
    """Bring a copy into the directory if it needs one, or is better off with one.

    Where nothing but a copy helps, it waits until a node gives one; the `room` says so meanwhile.

    Raises:
        EventStoreError: the ordered log is of another key or a newer version; the directory is in use.
        SequencerError: as `Sequencer.follow`.
    """
    held = held_in(settings.data)
    if held is None:
        beginning = await find_beginning(sequencer, secrets.master_key, ambient)
        log_id, must, first = beginning.birth.log_id, not beginning.is_whole, beginning.first
        if not must and beginning.last < COPY_FROM:
            return
    elif first := await _trimmed_to(sequencer, held):
        await _must_be_the_same(sequencer, held)
        log_id, must = held.log_id, True
    else:
        return
    asker = Asker(
        secret=derive(secrets.master_key, signing.PURPOSE), node=node, log_id=log_id, ambient=ambient
    )
    codec = Codec(derive(secrets.master_key, "proposals"), log_id)
    await room.open()
    while True:
        room.tell("this node looks for another one that gives it a copy")
        living = await finding.living(sequencer, codec, await _last(sequencer), node)
        try:
            giver = await fetch(settings.data, living, asker, log_id, room.tell, first)
        except NoCopy as error:
            if not must:
                _log.warning("follows_from_the_beginning", reason=str(error))
                return
            room.tell(f"this node needs a copy of another one, and gets none: {error}")
            await asyncio.sleep(AGAIN_S)
        else:
            _log.info("joined_by_copy", node=giver)
            room.tell(f"this node opens the copy that {giver} gave")
            copy = held_in(settings.data)
            first = 0 if copy is None else await _trimmed_to(sequencer, copy)
            if not first:
                return
            must = True  # the log was trimmed meanwhile


async def follow(replica: ReplicaWriter, room: WaitingRoom) -> None:
    """Wait until a replica that began empty has applied what was ordered: it has nothing to serve before.

    Raises:
        ConfigError: it never will.
    """
    joining = asyncio.ensure_future(replica.joined())
    try:
        while not joining.done():
            await asyncio.wait((joining,), timeout=TELL_S)
            if replica.trouble:
                room.tell(replica.trouble)
        joining.result()
    except Unavailable as why:
        raise ConfigError(f"this node can't go on: {why}") from None
    finally:
        await cancel_all([joining], 1.0)


async def _must_be_the_same(sequencer: Sequencer, held: Held) -> None:
    """Raises ConfigError: the ordered log is another one than the directory's."""
    try:
        await SameOrder(sequencer, held.log_id, held.offset).check()
    except Misconfigured as error:
        raise ConfigError(str(error)) from None
    except Unreachable:
        pass  # the nodes that give copies are of one log by their keys


async def _trimmed_to(sequencer: Sequencer, held: Held) -> int:
    """The oldest proposal that the ordered log keeps, if it has lost what this directory needs next; else 0.

    Without an answer it has not.
    """
    try:
        async with asyncio.timeout(HELD_S):
            if await sequencer.last() <= held.offset:
                return 0
            ordered = sequencer.follow(held.offset)
            try:
                await anext(ordered)
            finally:
                await ordered.aclose()
    except Trimmed as error:
        return error.first
    except (Unreachable, TimeoutError):
        pass
    return 0


async def _last(sequencer: Sequencer) -> int:
    while True:
        try:
            return await sequencer.last()
        except Unreachable:
            await asyncio.sleep(AGAIN_S)
