"""One ordered consumer of the stream: messages from a sequence on.

It ends whenever it was silent for `SILENT_S`, or its connection ended; then it is made anew.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from nats.aio.msg import Msg

from huahuo.eventstore.sequencer.address import LogAddress
from huahuo.eventstore.sequencer.nats_link import ERRORS, Link
from huahuo.eventstore.sequencer.port import Unreachable

SILENT_S = 3.0
PULL, PULL_S, BEAT_S = 128, 30.0, 1.0
"""The consumer is asked for 128 messages or 30 s, and says each second that it lives."""


async def consume(link: Link, address: LogAddress, name: str, first: int) -> AsyncGenerator[Msg]:
    """Messages from sequence `first` on, until something is wrong. `name`: of the consumer, used once."""
    queue: asyncio.Queue[Msg | None] = asyncio.Queue()
    forget = link.on_end(lambda: queue.put_nowait(None))
    inbox = link.client.new_inbox()

    async def hear(message: Msg) -> None:
        queue.put_nowait(message)

    subscription = await link.client.subscribe(inbox, cb=hear)
    api = f"{address.name}.{name}"
    try:
        await link.ask(
            f"CONSUMER.CREATE.{api}", {"stream_name": address.name, "config": _consumer(name, first)}
        )
        left = 0
        while not link.ended.is_set():
            if left == 0:
                ask = {
                    "batch": PULL,
                    "expires": round(PULL_S * 1e9),
                    "idle_heartbeat": round(BEAT_S * 1e9),
                }
                body = msgspec.json.encode(ask)
                await link.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{api}", body, reply=inbox)
                left = PULL
            try:
                async with asyncio.timeout(SILENT_S):
                    message = await queue.get()
            except TimeoutError:
                raise Unreachable(f"{link.host} says nothing any more") from None
            if message is None:
                return
            status = message.headers.get("Status") if message.headers else None
            if status is None:
                left -= 1
                yield message
            elif status == "408":
                left = 0
            elif status != "100":
                return
    finally:
        forget()
        if not link.ended.is_set():
            with contextlib.suppress(*ERRORS):
                await subscription.unsubscribe()
                # No answer is waited for: the server forgets the consumer by itself too.
                await link.client.publish(f"$JS.API.CONSUMER.DELETE.{api}", b"")


def _consumer(name: str, first: int) -> dict[str, Any]:
    return {
        "name": name,
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": first,
        "ack_policy": "none",
        "max_deliver": 1,
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": round(2 * PULL_S * 1e9),
    }
