"""Whose turn it is: the queue of effects. Pure."""

from typing import Any

from msgspec import Raw

from huahuo.actors.effects.facts import OpenEffect
from huahuo.actors.effects.queue import Entry, Line, Spec


async def nothing(_job: Any, _run: Any) -> None: ...


def spec(name: str = "pack", at_once: int | None = None, backoff: float = 1.0) -> Spec:
    return Spec(
        kind="order", name=name, handler=nothing, read=bytes, key=int, at_once=at_once, backoff_s=backoff
    )


def entry(id_: int, user: int | None, of: Spec | None = None, per: object = None) -> Entry:
    of = of or spec()
    row = OpenEffect("order", "1", of.name, Raw(b"{}"), since_ms=0, user=user)
    return Entry(id_, of, row, (of.kind, of.name, per), None)


def line(*entries: Entry, waiting_max: int = 100, per_user: int = 100) -> Line:
    made = Line(waiting_max, per_user)
    for one in entries:
        assert made.add(one)
    return made


def free(_user: object) -> float:
    return 0.0


def ids(made: Line, count: int) -> list[int]:
    """The ids of the next `count`."""
    found = [made.next(free) for _ in range(count)]
    return [one.id for one in found if isinstance(one, Entry)]


def test_users_take_turns() -> None:
    made = line(*(entry(n, user=1) for n in range(5)), entry(10, user=2), entry(20, user=None))
    assert ids(made, 7) == [0, 10, 20, 1, 2, 3, 4]


def test_there_is_no_room_over_the_bounds() -> None:
    made = line(entry(1, 1), entry(2, 1), waiting_max=3, per_user=2)
    assert not made.add(entry(3, 1))
    assert made.add(entry(4, 2))
    assert not made.add(entry(5, 3))
    assert len(made.waiting) == 3
