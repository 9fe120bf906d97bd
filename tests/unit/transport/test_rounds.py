"""Where one turn of the loop cannot handle all that came, those who ask now and then go first."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from huahuo.transport.load import fair_queueing
from huahuo.transport.load.fair_queueing import TURN_S, VISIT_S, Rounds

pytestmark = pytest.mark.virtual_time

COST_S = 0.0012


class World:
    """Rounds on a clock that only work moves. Each turn of the loop is one `sleep(0)`."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.rounds = Rounds(lambda: self.now_s)
        self.went: list[str] = []

    def piece(self, owner: str, name: str = "", cost_s: float = COST_S) -> Callable[[], None]:
        def go() -> None:
            self.now_s += cost_s
            self.went.append(name or owner)

        return go

    def ask(self, owner: str, name: str = "", *, fresh: bool = True) -> None:
        """As a connection does when a message has come."""
        if self.rounds.may_begin(owner):
            self.piece(owner, name)()
        else:
            self.rounds.wait(owner, self.piece(owner, name), fresh=fresh)

    async def turn(self) -> None:
        await asyncio.sleep(0)

    async def until_idle(self) -> None:
        while self.rounds.waiting:  # noqa: ASYNC110  virtual time
            await asyncio.sleep(fair_queueing.HELD_S)


async def test_nothing_waits_while_a_turn_has_time() -> None:
    world = World()
    for number in range(int(TURN_S / COST_S) + 1):
        world.ask("a", str(number))
    assert (len(world.went), world.rounds.waiting) == (int(TURN_S / COST_S) + 1, 0)
    world.ask("a", "more")
    assert world.rounds.waiting == 1
    await world.until_idle()
    assert world.went[-1] == "more"


async def test_what_waits_goes_in_the_order_in_which_it_came() -> None:
    world = World()
    for number in range(50):
        world.ask("a", str(number))
    await world.until_idle()
    assert world.went == [str(number) for number in range(50)]


async def test_one_who_asks_now_and_then_waits_for_two_turns_however_many_others_wait() -> None:
    world = World()
    for number in range(1_000):
        world.ask(f"user/{number % 100}")
    await world.turn()
    for count in range(1, 21):
        world.rounds.wait("now and then", world.piece("now and then", cost_s=COST_S / 10))
        await world.turn()
        await world.turn()
        assert world.went.count("now and then") == count
        for _ in range(3):
            await world.turn()
    assert world.rounds.waiting > 500


async def test_all_who_wait_get_the_same() -> None:
    world = World()
    for number in range(3_000):
        world.ask(f"user/{number % 100 if number < 1_000 else 0}")
    while len(world.went) < 800:
        await world.turn()
    counts = Counter(world.went[200:])
    assert len(counts) == 100
    assert max(counts.values()) - min(counts.values()) <= VISIT_S / COST_S + 1


async def test_newcomers_do_not_keep_those_waiting_who_came_before() -> None:
    world = World()
    for _ in range(20):
        world.ask("waits")
    await world.turn()
    waited = world.went.count("waits")
    for number in range(40):
        world.ask(f"new/{number}", "new")
        world.ask(f"newer/{number}", "new")
        await world.turn()
    assert world.went.count("waits") == 20 > waited


async def test_one_without_room_stands_still_while_others_pass() -> None:
    world, full = World(), {"full"}
    world.rounds.room.append(lambda owner: owner not in full)
    for number in range(30):
        world.ask(("full", "free")[number % 2])
    await asyncio.sleep(1.0)
    assert world.went.count("free") == 15
    stood = world.went.count("full")
    assert stood < 15
    full.clear()
    await world.until_idle()
    assert world.went.count("full") == 15


async def test_one_who_comes_while_all_others_are_without_room_waits_for_nothing() -> None:
    world = World()
    world.rounds.room.append(lambda owner: owner != "full")
    for _ in range(10):
        world.ask("full")
    await asyncio.sleep(1.0)
    began_s = asyncio.get_running_loop().time()
    world.ask("free")
    await world.turn()
    await world.turn()
    assert world.went[-1] == "free"
    assert asyncio.get_running_loop().time() == began_s


async def test_there_is_one_turn_at_a_time() -> None:
    world, looks = World(), 0

    def has_room(_owner: str) -> bool:
        nonlocal looks
        looks += 1
        return looks > 2

    def again() -> None:
        world.now_s += COST_S
        if looks < 40:
            world.rounds.wait("a", again, fresh=False)

    world.rounds.room.append(has_room)
    world.rounds.may_begin("a")
    world.rounds.wait("a", again)
    await asyncio.sleep(fair_queueing.HELD_S)
    for _ in range(100):
        before = looks
        await asyncio.sleep(0)
        assert looks <= before + 1
    assert looks == 40


async def test_tasks_are_let_go_few_at_a_time() -> None:
    world = World()
    for _ in range(int(TURN_S / COST_S) + 1):
        world.ask("a")
    went: list[int] = []

    async def task(number: int) -> None:
        await world.rounds.turn("b")
        went.append(number)

    tasks = [asyncio.create_task(task(number)) for number in range(30)]
    await asyncio.sleep(0)
    seen = 0
    while len(went) < 30:
        await asyncio.sleep(0)
        assert len(went) - seen <= TURN_S / fair_queueing.TASK_S + 1
        seen = len(went)
    assert went == list(range(30))
    await asyncio.gather(*tasks)


async def test_a_fault_in_one_message_keeps_no_other_waiting() -> None:
    world = World()
    for _ in range(5):
        world.ask("a")

    def fault() -> None:
        raise ValueError

    world.rounds.wait("a", fault)
    world.ask("a", "after")
    world.ask("b", "other")
    await world.until_idle()
    assert {"after", "other"} <= set(world.went)


async def test_what_ends_a_turn_by_more_than_a_fault_keeps_no_other_waiting() -> None:
    world = World()
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, about: told.append(about["exception"]))
    for _ in range(5):
        world.ask("a")

    def cancelled() -> None:
        raise asyncio.CancelledError

    world.rounds.wait("a", cancelled)
    world.ask("a", "after")
    world.ask("b", "other")
    await world.until_idle()
    assert {"after", "other"} <= set(world.went)
    assert [type(one) for one in told] == [asyncio.CancelledError]


async def test_a_task_that_is_cancelled_while_it_waits_leaves_its_line() -> None:
    world = World()
    world.rounds.room.append(lambda owner: owner != "full")
    for _ in range(4):
        world.ask("full")
    waited = world.rounds.waiting
    tasks = [asyncio.create_task(world.rounds.turn("full")) for _ in range(50)]
    await world.turn()
    assert world.rounds.waiting == waited + 50
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert world.rounds.waiting == waited


async def test_many_without_room_make_no_turn_long() -> None:
    world = World()
    looked: list[str] = []

    def no_room(owner: str) -> bool:
        looked.append(owner)
        return False

    for number in range(4 * fair_queueing.LOOKS):
        world.rounds.wait(f"user/{number}", world.piece("never"), fresh=False)
    world.rounds.room.append(no_room)
    most = 0
    for _ in range(8):
        before = len(looked)
        await asyncio.sleep(fair_queueing.HELD_S)
        most = max(most, len(looked) - before)
    assert most <= 2 * fair_queueing.LOOKS
    assert len(set(looked)) == 4 * fair_queueing.LOOKS


async def test_one_who_asks_again_at_each_answer_does_not_always_come_first() -> None:
    world = World()
    for number in range(10_000):
        world.ask(f"user/{number % 100}")
    await world.turn()
    asked = 0
    while world.now_s < 5.0:
        world.ask("again")
        asked += 1
        while world.went.count("again") < asked:
            await world.turn()
    others = Counter(world.went)["user/7"]
    assert others < world.went.count("again") < 2.5 * others + fair_queueing.FIRST_S / COST_S
