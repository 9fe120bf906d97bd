"""What may be followed and by whom is checked where a follower is declared, or at the start."""

from collections.abc import Sequence
from typing import Any

import pytest

from huahuo import DefinitionError, Followed
from huahuo.actors.domain.work_specs import Following
from tests.support.worlds.followers import NAME
from tests.support.worlds.orders import Engine, in_engine, orders
from tests.support.worlds.scenario import scenario


async def to_crm(events: Sequence[Followed]) -> None: ...


def no_coroutine(events: Sequence[Followed]) -> None: ...


async def no_events() -> None: ...


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no coroutine": (no_coroutine, {}, "write async def"),
    "no parameter": (no_events, {}, "it takes the events"),
    "no kind": (to_crm, {"kinds": []}, "it follows nothing"),
    "internal": (to_crm, {"kinds": ["effect"]}, "follow the kind of the entity"),
    "no name of a kind": (to_crm, {"kinds": ["Order/1"]}, "is no kind"),
    "batch": (to_crm, {"batch": 0}, "batch= is 1 to 1000"),
    "retries": (to_crm, {"retries": -1}, "begin at 0"),
    "a kind of ours without entity": (to_crm, {"without_entity": ["user"]}, "belongs under kinds="),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_mistake_is_told_where_it_is_written(what: str) -> None:
    handler, given, says = WRONG[what]
    with pytest.raises(DefinitionError, match=says) as raised:
        Following().follower(NAME, **{"kinds": ["order"], **given})(handler)
    assert "test_follower_declarations.py" in str(raised.value)


@pytest.mark.parametrize("name", ["", "a b", "timers", "x" * 65])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(DefinitionError, match="a name has"):
        Following().follower(name, kinds=["order"])(to_crm)


def test_two_followers_of_one_name_are_refused() -> None:
    following = Following()
    following.follower(NAME, kinds=["order"])(to_crm)
    with pytest.raises(DefinitionError, match="has this name already"):
        following.follower(NAME, kinds=["order"])(to_crm)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kinds": ["ordr"]}, "no entity is of the kind 'ordr'"),
        ({"without_entity": ["order"]}, "write it under kinds="),
        ({"kinds": ["mailbox"]}, "no entity is of the kind 'mailbox'"),
    ],
)
@scenario(in_engine)
async def test_an_unknown_kind_ends_the_start(engine: Engine, *, given: dict[str, Any], says: str) -> None:
    def declare(entities: Any) -> None:
        entities.following.follower(NAME, **given)(to_crm)

    with pytest.raises(ValueError, match=says):
        Engine(engine.log, [orders()], declare=declare)


def test_a_name_of_a_table_is_refused() -> None:
    following = Following()
    following.follower("orders", kinds=["order"])(to_crm)
    with pytest.raises(ValueError, match="rows of a table of this name"):
        following.check({"order"}, ["orders"])
