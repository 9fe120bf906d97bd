"""Each user does one piece of such work at a time."""

import asyncio

from huahuo.mailcheck.checks.mailboxes import OneAtATime


async def test_a_piece_of_work_waits_for_that_of_its_user_and_for_no_other_users() -> None:
    turns, entered, go = OneAtATime(), list[str](), asyncio.Event()

    async def piece(name: str, user_id: int) -> None:
        async with turns.of(user_id):
            entered.append(name)
            await go.wait()

    asked = [asyncio.ensure_future(piece(name, user)) for name, user in (("a", 1), ("b", 1), ("c", 2))]
    await asyncio.sleep(0.001)
    assert entered == ["a", "c"]
    asked[0].cancel()
    await asyncio.sleep(0.001)
    assert entered == ["a", "c", "b"], "one that leaves lets the next one in"
    go.set()
    await asyncio.gather(*asked, return_exceptions=True)
