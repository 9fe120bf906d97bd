"""What a connection writes, as an ASGI server gets it; and what waits while that server does not take it."""

import asyncio
import gc
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from huahuo.transport.http.asgi_socket import Message, OutQueue, Unwrapped
from huahuo.transport.protocol.frames import PING, binary_frame, text_frame
from tests.support.drivers.transcripts import FOLDER, read

pytestmark = pytest.mark.virtual_time

FILES = sorted(FOLDER.glob("*.jsonl"))


class Taking:
    """The `send` of a server that takes a message when it is told to."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.may = asyncio.Semaphore(0)

    async def send(self, message: Message) -> None:
        await self.may.acquire()
        self.got.append(message)

    async def take(self, count: int) -> None:
        for _ in range(count):
            self.may.release()
        for _ in range(3):
            await asyncio.sleep(0)


def spoken(frames: Sequence[bytes]) -> list[Any]:
    messages = [message for message, _ in Unwrapped().messages(b"".join(frames))]
    return [msgspec.json.decode(message["text"]) for message in messages]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_each_message_of_a_golden_conversation_is_one_message_of_the_server(path: Any) -> None:
    said = [step.frame for step in read(path)[1] if step.origin == "server"]
    assert spoken([text_frame(msgspec.json.encode(frame)) for frame in said]) == said


async def test_what_many_get_is_taken_apart_once() -> None:
    unwrapped, frame = Unwrapped(), text_frame(b'{"type":"live"}')
    assert unwrapped.messages(frame) is unwrapped.messages(frame)
    assert unwrapped.messages(binary_frame(b"zstd")) == [({"type": "websocket.send", "bytes": b"zstd"}, 4)]
    assert unwrapped.messages(PING) == [], "pings are the server's"


async def test_what_was_taken_apart_is_not_kept_beyond_its_turn() -> None:
    unwrapped, frame = Unwrapped(), text_frame(b'{"type":"snapshot"}')
    taken = unwrapped.messages(frame)
    await asyncio.sleep(0)
    assert not [one for one in gc.get_referents(unwrapped) if one is taken or one is frame]


async def test_a_queue_is_full_until_three_quarters_of_it_were_taken() -> None:
    filled: list[int] = []
    drained: list[int] = []
    queue = OutQueue(lambda: filled.append(queue.unsent_bytes), lambda: drained.append(queue.unsent_bytes))
    taking = Taking()
    queue.bound(100)
    sending = asyncio.ensure_future(queue.run(taking.send))
    for number in range(11):
        queue.put({"n": number}, 10)
    assert (queue.paused, queue.unsent_bytes, filled) == (True, 110, [110])
    await taking.take(8)
    assert (queue.paused, drained) == (True, [])
    await taking.take(1)
    assert (queue.paused, drained) == (False, [20])
    queue.end({"n": "last"})
    queue.put({"n": "too late"}, 10)
    await taking.take(3)
    await sending
    assert [message["n"] for message in taking.got] == [*range(11), "last"]
