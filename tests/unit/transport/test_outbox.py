"""Answers that come together are written together."""

import asyncio

from huahuo.transport.server.wires import Outbox


async def test_everything_is_written_once_and_at_the_latest_in_the_next_turn() -> None:
    outbox, written = Outbox(), list[str]()
    outbox.add(lambda: written.append("a"))
    outbox.add(lambda: written.append("b"))
    assert written == []
    await asyncio.sleep(0)
    assert written == ["a", "b"]
    await asyncio.sleep(0)
    assert written == ["a", "b"]


async def test_what_is_written_at_once_is_not_written_again() -> None:
    outbox, written = Outbox(), list[str]()
    outbox.add(lambda: written.append("a"))
    outbox.flush()
    outbox.add(lambda: written.append("b"))
    assert written == ["a"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert written == ["a", "b"]
