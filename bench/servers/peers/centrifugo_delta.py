"""What Centrifugo sends of events as differences (Fossil deltas) to a client that asked for them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from bench.clients.receivers import Receivers
from bench.clients.script import Script
from bench.servers.peers.centrifugo import DELTAS, Centrifugo, channel, client
from bench.servers.peers.centrifugo_publisher import Publisher

_FRAME_HEAD_BYTES = 4
"""Of a WebSocket frame of 126 bytes or more; the shorter ones have 2."""


def bytes_an_event(streams: Sequence[Sequence[bytes]], folder: Path, receiver: list[str]) -> float:
    """Bytes of a message, for streams of events that are published one after the other."""
    peer = Centrifugo()
    with peer.start(folder) as running:
        readers = [client(user, channel(user, DELTAS), delta=True) for user in range(1, len(streams) + 1)]
        with Receivers(Script(running.port, readers), folder, command=receiver) as receivers:
            receivers.ready()
            before = receivers.counts()
            asyncio.run(_publish(running.port, streams))
            events = sum(map(len, streams))
            assert receivers.until("frames", before.frames + events, 60), "not every event came by itself"
            came = receivers.counts() - before
    mean = came.bytes / came.frames
    return mean - (_FRAME_HEAD_BYTES if mean >= 126 + _FRAME_HEAD_BYTES else 2)


async def _publish(port: int, streams: Sequence[Sequence[bytes]]) -> None:
    publisher = await Publisher.open(port, DELTAS)
    for user, bodies in enumerate(streams, 1):
        for body in bodies:  # each waits for the one before, so that no two share a frame
            await publisher.publish([(user, body)])
    publisher.close()
