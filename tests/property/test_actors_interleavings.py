"""Any crowd of senders, in any seeded interleaving: order is kept and every message is accounted for."""

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from huahuo.actors import ActorDeadError, InboxFull, LoopActor, LoopRef, Restart, Runtime
from tests.support.worlds.actors import in_world

POISON = "poison"
Message = tuple[int, int, str]


class Fickle(LoopActor):
    """Handles, suspends or fails, as the message says."""

    inbox_limit = 3
    supervision = Restart(backoff_min_s=0.01, restarts_max=1000)

    def __init__(self, handled: list[Message]) -> None:
        super().__init__()
        self.handled = handled

    def on_receive(self, message: Message) -> Any:
        if message[2] == POISON:
            raise ValueError
        if message[2] == "suspend":
            return self._slowly(message)
        self.handled.append(message)
        return message

    async def _slowly(self, message: Message) -> Message:
        await asyncio.sleep(0.001)
        self.handled.append(message)
        return message


KINDS = st.sampled_from(["plain", "suspend", POISON])
WAYS = st.sampled_from(["tell", "tell_async", "ask"])
SCRIPTS = st.lists(st.lists(st.tuples(WAYS, KINDS), max_size=8), min_size=1, max_size=4)


class Books:
    """What became of every message, from the senders' side."""

    def __init__(self) -> None:
        self.told: list[Message] = []
        self.answered: list[Message] = []
        self.failed = self.refused = self.dead = 0


async def send(ref: LoopRef[Fickle], sender: int, script: list[tuple[str, str]], books: Books) -> None:
    for number, (way, kind) in enumerate(script):
        message = (sender, number, kind)
        try:
            if way == "ask":
                books.answered.append(await ref.ask(message, block=False))
                continue
            if way == "tell":
                ref.tell(message)
            else:
                await ref.tell_async(message)
            books.told.append(message)
        except InboxFull:
            books.refused += 1
        except ActorDeadError:
            books.dead += 1
        except ValueError:
            books.failed += 1


@given(SCRIPTS, st.integers(0, 2**32), st.booleans())
def test_order_is_kept_per_sender_and_no_message_vanishes(
    scripts: list[list[tuple[str, str]]], seed: int, stop_early: bool
) -> None:
    handled: list[Message] = []
    books = Books()

    async def play(runtime: Runtime) -> int:
        ref = runtime.start(Fickle, handled)
        async with asyncio.TaskGroup() as senders:
            for sender, script in enumerate(scripts):
                senders.create_task(send(ref, sender, script, books))
            if stop_early:
                await asyncio.sleep(0.005)
                ref.stop_now()
        await runtime.stop(timeout_s=1000)
        assert runtime.queued == 0
        assert runtime.alive == 0
        return runtime.dead_letters

    dead_letters = in_world(play, seed)
    for sender in range(len(scripts)):
        numbers = [number for who, number, _ in handled if who == sender]
        assert numbers == sorted(set(numbers))  # in order, and none twice
    sent = sum(map(len, scripts))
    assert len(handled) == len(set(handled))
    assert sent == len(books.told) + len(books.answered) + books.failed + books.refused + books.dead
    # What was told is handled or counted; what was asked is answered with what was handled.
    assert len(books.told) + len(books.answered) == len(handled) + dead_letters
    assert set(books.answered) <= set(handled)


@given(SCRIPTS, st.integers(0, 2**32))
def test_a_seed_repeats_its_run(scripts: list[list[tuple[str, str]]], seed: int) -> None:
    def once() -> list[Message]:
        handled: list[Message] = []

        async def play(runtime: Runtime) -> None:
            ref = runtime.start(Fickle, handled)
            async with asyncio.TaskGroup() as senders:
                for sender, script in enumerate(scripts):
                    senders.create_task(send(ref, sender, script, Books()))

        in_world(play, seed)
        return handled

    assert once() == once()
