"""The way from a foreign thread onto the loop."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Iterator

import pytest

from huahuo.embedding.service_thread import Bridge
from tests.support.patience import WITHIN_S


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One that runs on a thread of its own."""
    started: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = (
        concurrent.futures.Future()
    )

    async def serve() -> None:
        stop = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="service loop")
    thread.start()
    made, stop = started.result(WITHIN_S)
    yield made
    made.call_soon_threadsafe(stop.set)
    thread.join()


@pytest.fixture
def bridge(loop: asyncio.AbstractEventLoop) -> Bridge:
    return Bridge(loop)


def test_a_call_from_the_loop_itself_is_refused_instead_of_hanging(
    bridge: Bridge, loop: asyncio.AbstractEventLoop
) -> None:
    async def nothing() -> None: ...

    async def caller(bridge: Bridge) -> str:
        with pytest.raises(RuntimeError, match="own loop") as caught:
            bridge.call(nothing, timeout_s=WITHIN_S)
        return str(caught.value)

    assert asyncio.run_coroutine_threadsafe(caller(bridge), loop).result(WITHIN_S)


def test_a_call_that_waits_when_the_service_stops_ends_with_an_error(
    bridge: Bridge, loop: asyncio.AbstractEventLoop
) -> None:
    async def stop_then_wait() -> None:
        loop.call_soon(bridge.stop)
        await loop.create_future()

    with pytest.raises(RuntimeError, match="before it could answer"):
        bridge.call(stop_then_wait, timeout_s=WITHIN_S)


def test_a_call_that_takes_too_long_is_cancelled(bridge: Bridge) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def for_ever() -> None:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    while not begun.is_set():  # a loop without a processor may not even begin in that time
        with pytest.raises(TimeoutError):
            bridge.call(for_ever, timeout_s=0.05)
    assert cancelled.wait(WITHIN_S)


def test_a_post_that_waits_when_the_service_stops_ends_with_an_error_and_later_ones_are_refused(
    bridge: Bridge, loop: asyncio.AbstractEventLoop
) -> None:
    def stop_then_wait(post: object) -> None:
        del post
        loop.call_soon(bridge.stop)

    with pytest.raises(RuntimeError, match="before it could answer"):
        bridge.post(stop_then_wait, timeout_s=WITHIN_S)
    with pytest.raises(RuntimeError, match="has stopped"):
        bridge.post(stop_then_wait, timeout_s=WITHIN_S)


def test_a_post_that_takes_too_long_is_given_up_and_the_next_one_works(
    bridge: Bridge, loop: asyncio.AbstractEventLoop
) -> None:
    late: list[object] = []

    def end_the_late_one_too(post: object) -> None:
        loop.call_soon(bridge.heard, [(late[0], 1), (post, 2)])

    while not late:  # on a busy machine it may be given up before the loop hears of it
        with pytest.raises(TimeoutError):
            bridge.post(late.append, timeout_s=0.05)
    assert bridge.post(end_the_late_one_too, timeout_s=WITHIN_S) == 2


class Commits:
    """Tells the threads of a round together when all have posted, as a commit does."""

    def __init__(self, bridge: Bridge, threads: int, backs_s: list[float]) -> None:
        self.bridge = bridge
        self.threads = threads
        self.backs_s = backs_s
        """How long the loop waits for the threads of each round."""
        self.begun: list[object] = []
        self.begun_when_told: list[int] = []
        """For each round: how many posts had begun, since the first round, when the loop went on."""
        self.told = threading.Semaphore(0)

    def begin(self, post: object) -> None:
        self.begun.append(post)
        if len(self.begun) % self.threads == 0:
            asyncio.get_running_loop().call_soon(self._tell, self.begun[-self.threads :])

    def _tell(self, posts: list[object]) -> None:
        self.bridge.back_s = self.backs_s.pop(0)
        self.bridge.heard([(post, "told") for post in posts])
        self.begun_when_told.append(len(self.begun))
        self.told.release()

    def round(self, posts_of_each: int) -> None:
        """Each thread posts so often. Ends when the last round was told and the loop went on."""

        def caller() -> None:
            for _ in range(posts_of_each):
                self.bridge.post(self.begin, timeout_s=60)

        threads = [threading.Thread(target=caller) for _ in range(self.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for _ in range(posts_of_each):
            assert self.told.acquire(timeout=60)


def test_threads_that_are_told_together_are_all_in_the_next_commit(bridge: Bridge) -> None:
    commits = Commits(bridge, threads=4, backs_s=[60, 0])
    commits.round(posts_of_each=2)
    assert commits.begun_when_told == [8, 8]


def test_the_loop_does_not_wait_again_at_once_for_threads_that_did_not_come_back(bridge: Bridge) -> None:
    commits = Commits(bridge, threads=2, backs_s=[0, 3600])
    commits.round(posts_of_each=1)
    commits.round(posts_of_each=1)
    assert commits.begun_when_told == [2, 4]
