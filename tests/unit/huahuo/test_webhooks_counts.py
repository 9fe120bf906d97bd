"""What waits for hooks is counted again when other nodes may have changed it, but not all the time."""

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.webhooks.delivery_books import COUNTED_S, COUNTING_SHARE, HookBooks
from tests.support.models.faulty_log import faulty_log


async def test_a_count_that_took_long_is_believed_for_longer() -> None:
    log, ambient = await faulty_log(), FakeAmbient()
    books = HookBooks(log, ambient, lambda _hook: False, shared=True)
    rows, took_s = log.rows, 0.5

    async def slow(*args: object, **kwargs: object) -> object:
        ambient.advance(took_s)
        return await rows(*args, **kwargs)  # type: ignore[arg-type]

    log.rows = slow  # type: ignore[method-assign, assignment]
    assert await books.count_again()
    ambient.advance(COUNTED_S)
    assert not await books.count_again()
    ambient.advance(took_s / COUNTING_SHARE)
    assert await books.count_again()
    took_s = 0.0
    ambient.advance(0.5 / COUNTING_SHARE)
    assert await books.count_again()
    ambient.advance(COUNTED_S)
    assert await books.count_again()
    await log.close()
