"""Mistakes in declarations are errors at the start: each names the file, the class and what to write."""

import importlib.util
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from huahuo import DefinitionError, Entity
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.plugin import Entities

BEGIN = """
from msgspec import Struct
from huahuo import Command, Effect, Entity, Event, Secret

class Order(Struct, frozen=True):
    item: str = ""
class Placed(Event, type="order_placed"):
    item: str
class Place(Command, action="place_order", creates=True): ...

order = Entity("order", Order)
"""

_number = itertools.count()


def started(source: str, folder: Path) -> None:
    """Import an application of this source, and check its entities as the service does at its start."""
    path = folder / f"app_{next(_number)}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    Catalog(value for value in vars(module).values() if isinstance(value, Entity))


MISTAKES = {
    **{
        f"@order.{word}s": (
            f"@order.{word}s\ndef handler(state: Order, given: Place): ...",
            [f"that is no decorator: write @order.{word} above the function"],
        )
        for word in ("evolve", "decide", "effect", "upcast")
    },
    "an event without a type": (
        "class Shipped(Event): ...",
        ["class Shipped(Event)", 'write class Shipped(Event, type="shipped")'],
    ),
    "a type that is no name": ('class Shipped(Event, type="a b"): ...', ["class Shipped(Event)", "'a b'"]),
    **{
        f"the type {name} of a message": (
            f'class Shipped(Event, type="{name}"): ...',
            ["class Shipped(Event)", repr(name), 'type="shipped"'],
        )
        for name in ("snapshot", "events", "success", "error", "heartbeat")
    },
    "a type of a message, and a class called like it": (
        'class Snapshot(Event, type="snapshot"): ...',
        ["class Snapshot(Event)", "'snapshot'", 'type="snapshot_made"'],
    ),
    **{
        f"an asynchronous {word}": (
            f"@order.{word}\nasync def wrong({arguments}): ...",
            ["wrong, ", "write def, not async def"],
        )
        for word, arguments in (
            ("evolve", "state: Order, event: Placed"),
            ("decide", "state: Order, command: Place, ctx"),
            ("readers", "state, who"),
            ('query("get_order")', "state, who"),
            ('upcast("order_placed", from_version=1)', "fields"),
        )
    },
    **{
        f"a query called {action}": (
            f'@order.query("{action}")\ndef wrong(state, who): ...',
            [repr(action), "belongs to the service", "write another"],
        )
        for action in ("snapshot", "success", "subscribe", "publish")
    },
    "an action that is no name": ('class Do(Command, action="Do It"): ...', ["class Do(Command)", "'Do It'"]),
    **{
        f"the action {action} of the service": (
            f'class Do(Command, action="{action}"): ...\n'
            "@order.decide\ndef do(state: Order, command: Do, ctx): return []",
            ["class Do(Command)", repr(action), "belongs to the service", "write another action="],
        )
        for action in ("subscribe", "ack", "publish", "get_clients")
    },
    "open without action": ("class Do(Command, open=True): ...", ["class Do(Command)", 'add action="do"']),
    "a keyword that would change how it is stored": (
        'class Shipped(Event, type="x", array_like=True): ...',
        ["class Shipped(Event)", "array_like= is not allowed"],
    ),
    **{
        f"a field called {field}": (
            f'class Shipped(Event, type="x"):\n    {field}: int',
            ["class Shipped(Event)", repr(field), "another name"],
        )
        for field in ("type", "timestamp", "stream", "seq")
    },
    "a command's field called type": ("class Do(Command):\n    type: int", ["class Do(Command)", "'type'"]),
    "a command's field called id": (
        'class Do(Command, action="do"):\n    id: int\n@order.decide\ndef do(state, command: Do, ctx): ...',
        ["class Do(Command)", "'id'"],
    ),
    "a command's field called as the entity's id": (
        'class Do(Command, action="do"):\n    order_id: int\n@order.decide\ndef do(s, command: Do, ctx): ...',
        ["class Do(Command)", "'order_id'"],
    ),
    "a secret in an effect": (
        "class Log(Effect):\n    password: Secret",
        ["class Log(Effect)", "Decision(secrets={…})"],
    ),
    "a secret in an event, in quotes": (
        "class Log(Event, type='x'):\n    password: 'dict[str, Secret | None]'",
        ["class Log(Event)", "secret"],
    ),
    "a reserved kind": ('Entity("mailbox", Order)', ["Entity('mailbox')", "choose another kind"]),
    "a kind that is no name": ('Entity("Order/1", Order)', ["Entity('Order/1')", "small letters"]),
    "a key of another kind": ('Entity("x", Order, key=float)', ["Entity('x')", "key=int", "key=str"]),
    "one kind twice": ('again = Entity("order", Order)', ["Entity('order')", "taken by", "another kind"]),
    "a state that may change in place": (
        'class Cart(Struct): ...\ncart = Entity("cart", Cart)',
        ["Entity('cart')", "write class Cart(Struct, frozen=True)"],
    ),
    "a state that is no struct": ('cart = Entity("cart", dict)', ["Entity('cart')", "class dict(Struct"]),
    "a state without defaults": (
        'class Cart(Struct, frozen=True):\n    n: int\ncart = Entity("cart", Cart)',
        ["Entity('cart')", "a default for every field", "'n'"],
    ),
    "a state that does not survive the codec": (
        "class Cart(Struct, frozen=True):\n    n: list[int] = (1,)\ncart = Entity('cart', Cart)",
        ["Entity('cart')", "changes when it is stored and read again"],
    ),
    "a state that the codec does not know": (
        "class Cart(Struct, frozen=True):\n    n: object = object()\ncart = Entity('cart', Cart)",
        ["Entity('cart')", "cannot be stored"],
    ),
    "an event that the codec does not know": (
        "import threading\nclass Odd(Event, type='odd'):\n    n: threading.Thread\n"
        "@order.evolve\ndef odd(state, event: Odd): ...",
        ["class Odd(Event)", "cannot be stored"],
    ),
    "a command whose default is a secret": (
        "from huahuo import Secret\n"
        "class SignIn(Command, action='sign_in_now'):\n    password: Secret = Secret('')\n"
        "@order.decide\ndef sign_in(state, command: SignIn, ctx): ...",
        ["class SignIn(Command)", "'password'", "write password: Secret | None = None"],
    ),
    "a handler without annotation": (
        "@order.evolve\ndef placed(state, event): ...",
        ["placed, a handler of order.evolve", "'event' has no annotation", "@order.evolve(TheClass)"],
    ),
    "an annotation that cannot be resolved": (
        "@order.decide\ndef place(state, command: 'Nowhere', ctx): ...",
        ["place, a handler of order.decide", "'Nowhere'", "@order.decide(TheClass)"],
    ),
    "a local class under deferred annotations": (
        "from __future__ import annotations\n" + BEGIN + "def make():\n"
        "    class Local(Event, type='local'): ...\n"
        "    @order.evolve\n    def local(state, event: Local): ...\nmake()",
        ["local, a handler of order.evolve", "'Local'", "@order.evolve(TheClass)"],
    ),
    "a handler of a class of another word": (
        "@order.evolve\ndef place(state, command: Place): ...",
        ["place, a handler of order.evolve", "Place", "derives from Event"],
    ),
    "a handler of every event": (
        "@order.evolve\ndef any(state, event: Event): ...",
        ["any, a handler of order.evolve", "a class of yours"],
    ),
    "a handler with too few arguments": (
        "@order.decide\ndef place(state): ...",
        ["place, a handler of order.decide", "with 3 arguments", "write def place(state, command, ctx)"],
    ),
    "a decide without its context": (
        "@order.decide\ndef place(state, command: Place): ...",
        ["place, a handler of order.decide", "write def place(state, command, ctx)"],
    ),
    "an effect without its run": (
        "class Pack(Effect): ...\n@order.effect(retries=1)\nasync def pack(job: Pack): ...",
        ["pack, a handler of order.effect", "write def pack(job, run)"],
    ),
    "a decide that yields": (
        "class Do(Command): ...\n@order.decide\ndef do(state, command: Do, ctx):\n    yield Placed(owner=1)",
        ["do, a handler of order.decide", "it yields", "return it instead"],
    ),
    "an effect that yields": (
        "class Pack(Effect): ...\n@order.effect\nasync def pack(job: Pack, run):\n    yield 1",
        ["pack, a handler of order.effect", "await run.emit"],
    ),
    "a decide of a text": (
        '@order.decide("place")\ndef place(state, command, ctx): ...',
        ["a handler of order.decide", "'place' is neither a class nor a function"],
    ),
    "a keyword with a slip of the pen": (
        'class Shipped(Event, type="x", prunnable=True): ...',
        ["class Shipped(Event)", "no keyword prunnable=", "write prunable="],
    ),
    "a keyword that nothing is like": (
        "class Pack(Effect, durable=True): ...",
        ["class Pack(Effect)", "no keyword durable=", "it may have name="],
    ),
    "a switch that is a text": (
        'class Shipped(Event, type="x", prunable="no"): ...',
        ["class Shipped(Event)", "prunable='no'", "write prunable=True"],
    ),
    "a kind that is a number": ("Entity(7, Order)", ["Entity(7)", "a text, such as 'order'"]),
    "a version that is a text": ('Entity("x", Order, version="2")', ["Entity('x')", "whole numbers from 1"]),
    "retries that are a text": (
        'class Pack(Effect): ...\n@order.effect(retries="5")\nasync def pack(job: Pack, run): ...',
        ["pack, a handler of order.effect", "retries=", "numbers from 0"],
    ),
    "two handlers for one event": (
        "@order.evolve\ndef one(s, event: Placed): ...\n@order.evolve\ndef two(s, event: Placed): ...",
        ["two, a handler of order.evolve", "Placed is handled by", "remove one of the two"],
    ),
    "two readers": (
        "@order.readers\ndef one(s, who): ...\n@order.readers\ndef two(s, who): ...",
        ["two, the readers of order", "remove one of the two"],
    ),
    "rows of a table that is no name": (
        '@order.rows("my orders")\ndef listed(state, key): ...',
        ["order.rows('my orders')", "a table has 1 to 64 letters"],
    ),
    "rows of one table twice": (
        '@order.rows("orders")\ndef one(state, key): ...\n@order.rows("orders")\ndef two(state, key): ...',
        ["order.rows('orders')", "says already", "remove one of the two"],
    ),
    "rows without the id": (
        '@order.rows("orders")\ndef listed(state): ...',
        ["order.rows('orders')", "write def listed(state, id)"],
    ),
    "two events with one stored name": (
        "class Twin(Event, type='order_placed'): ...\n"
        "@order.evolve\ndef one(s, event: Placed): ...\n@order.evolve\ndef two(s, event: Twin): ...",
        ["class Twin(Event)", "'order_placed'", "Placed", "write another type="],
    ),
    "two commands with one stored name": (
        "class Do(Command): ...\nclass Other(Command, name='do'): ...\n"
        "@order.decide\ndef one(s, c: Do, ctx): ...\n@order.decide\ndef two(s, c: Other, ctx): ...",
        ["class Other(Command)", "'do'", "write another name="],
    ),
    "one action for two entities": (
        "class Send(Command, action='place_order'): ...\nparcel = Entity('parcel', Order)\n"
        "@order.decide\ndef one(s, c: Place, ctx): ...\n@parcel.decide\ndef two(s, c: Send, ctx): ...",
        ["class Send(Command)", "'place_order'", "Place", "write another action="],
    ),
    "one class for two entities": (
        "parcel = Entity('parcel', Order)\n"
        "@order.evolve\ndef one(s, event: Placed): ...\n@parcel.evolve\ndef two(s, event: Placed): ...",
        ["class Placed(Event)", "Entity('order')", "Entity('parcel')", "write a second class"],
    ),
    "a listed event without evolve": (
        "parcel = Entity('parcel', Order, events=[Placed])",
        ["class Placed(Event)", "write @parcel.evolve"],
    ),
    "a listed command without decide": (
        "parcel = Entity('parcel', Order, commands=[Place])",
        ["class Place(Command)", "write @parcel.decide"],
    ),
    "a handled event that is not listed": (
        "parcel = Entity('parcel', Order, events=[])\n@parcel.evolve\ndef one(s, event: Placed): ...",
        ["class Placed(Event)", "is not in events=[…]"],
    ),
    "an upcast without a newer version": (
        "@order.evolve\ndef one(s, event: Placed): ...\n"
        "@order.upcast('order_placed', from_version=1)\ndef step(fields): return fields",
        ["order.upcast('order_placed', from_version=1)", "version=2"],
    ),
    "an upcast of an unknown type": (
        "parcel = Entity('parcel', Order, version=2)\n"
        "@parcel.upcast('nothing', from_version=1)\ndef step(fields): return fields",
        [
            "parcel.upcast('nothing', from_version=1)",
            "no event of parcel",
            "write one of those that an evolve",
        ],
    ),
    "a state with a class that no codec knows": (
        "class Person: ...\nclass Box(Struct, frozen=True):\n    owner: Person | None = None\n"
        "box = Entity('box', Box)",
        ["Entity('box')", "the field owner has the type Person: use numbers"],
    ),
    "a state with keys that JSON has not": (
        "class Box(Struct, frozen=True):\n    at: dict[tuple[int, int], int] = {}\nbox = Entity('box', Box)",
        ["Entity('box')", "the field at is a dict with keys of the type tuple"],
    ),
    "an event with a class that no codec knows": (
        "class Person: ...\nclass Sent(Event, type='sent'):\n    to: list[Person]\n"
        "@order.evolve\ndef sent(state, event: Sent): ...",
        ["class Sent(Event)", "the field to has the type Person: use numbers"],
    ),
    "an event with a name that is not defined": (
        "class Sent(Event, type='sent'):\n    to: 'Person'\n@order.evolve(Sent)\ndef sent(state, event): ...",
        ["class Sent(Event)", "name 'Person' is not defined: define it, or import it, above the class"],
    ),
    "a query with the action of a command": (
        "@order.decide(Place)\ndef place(s, c, ctx): ...\n"
        "@order.query('place_order')\ndef get(state, who): ...",
        ["order.query('place_order')", "the action of Place in ", "write another action"],
    ),
    "two entities that answer one query": (
        "@order.query('get_it')\ndef get(state, who): ...\nbox = Entity('box', Order)\n"
        "@box.query('get_it')\ndef get_box(state, who): ...",
        ["box.query('get_it')", "answers it already", "write another action"],
    ),
    "a handler with the state of another entity": (
        "@order.decide\ndef place(state: Placed, command: Place, ctx): ...",
        ["place, a handler of order.decide", "the state of order is Order, not Placed", "write state: Order"],
    ),
    "brackets with nothing in them": (
        "@order.decide()\ndef place(state, command: Place, ctx): ...",
        ["a handler of order.decide", "leave them out, or put the class there"],
    ),
    "an object in place of the state's class": (
        "box = Entity('box', Order())",
        ["Entity('box')", "the state is a class", "write Entity('box', Order)"],
    ),
    "a state with type arguments": (
        "box = Entity('box', list[int])",
        ["Entity('box')", "the state is a class, not one with type arguments", "write Entity('box', list)"],
    ),
    "an upcast without brackets": (
        "@order.upcast\ndef step(fields): return fields",
        ["step: order.upcast needs a name", "write @order.upcast("],
    ),
    "an upcast of a class": (
        "@order.upcast(Placed, from_version=1)\ndef step(fields): return fields",
        ["order.upcast: <class", "is no text: write @order.upcast("],
    ),
    "an upcast without a version": (
        "@order.upcast('order_placed')\ndef step(fields): return fields",
        ["write @order.upcast('order_placed', from_version=1)"],
    ),
    "rows without brackets": (
        "@order.rows\ndef rows(state, id): return []",
        ["rows: order.rows needs a name", 'write @order.rows("orders") above the function'],
    ),
    "a query without brackets": (
        "@order.query\ndef get(state, who): ...",
        ["get: order.query needs a name", 'write @order.query("get_order")'],
    ),
    "a list without brackets": (
        "from huahuo import Huahuo\n@Huahuo().query\ndef get(who): ...",
        ["get: app.query needs a name", "write @app.query("],
    ),
    "a follower without brackets": (
        "from huahuo import Huahuo\n@Huahuo().follower\nasync def to_crm(events): ...",
        ["to_crm: app.follower needs a name", 'write @app.follower("orders-to-crm", kinds=["order"])'],
    ),
    "a follower of a text": (
        "from huahuo import Huahuo\n@Huahuo().follower('crm', kinds='order')\nasync def crm(events): ...",
        ["follower('crm')", "kinds= is a list: write kinds=['order']"],
    ),
    "a follower of one entity": (
        "from huahuo import Huahuo\n@Huahuo().follower('crm', kinds=order)\nasync def crm(events): ...",
        ["follower('crm')", "kinds= is a list: write kinds=['order']"],
    ),
    "a follower of a class": (
        "from huahuo import Huahuo\n@Huahuo().follower('crm', kinds=[Order])\nasync def crm(events): ...",
        ["follower('crm')", "is neither the name of a kind nor an Entity"],
    ),
    "a text that shall judge tokens": (
        "from huahuo import Huahuo\nHuahuo(authenticate='check')",
        ["authenticate: 'check' is no function", "write def authenticate(token)"],
    ),
    "a judge of rights with other arguments": (
        "from huahuo import Huahuo\nHuahuo(authorize=lambda who: True)",
        ["authorize: it is called with 3 arguments", "write def authorize(who, stream, right)"],
    ),
    "a number as the folder": (
        "from huahuo import Huahuo\nHuahuo(data=5)",
        ["data: 5 is no name of a folder", 'write data="my-data"'],
    ),
    "an event that is a command too": (
        "class Both(Event, Command, type='both'): ...",
        ["class Both(Event)", "it cannot be a Command too"],
    ),
    "a class in place of the list of events": (
        "Entity('cart', Order, events=Placed)",
        ["Entity('cart'): Placed: events= is a list of classes", "write events=[TheClass]"],
    ),
    "an object in the list of events": (
        "Entity('cart', Order, events=[Placed('tea')])",
        ["Entity('cart'): Placed(item='tea'): events= is a list of classes that derive from Event"],
    ),
    "an event in the list of commands": (
        "Entity('cart', Order, commands=[Placed])",
        ["Entity('cart'): Placed: commands= is a list of classes that derive from Command"],
    ),
    "an upcast with two arguments": (
        "@order.upcast('order_placed', from_version=1)\ndef step(fields, version): return fields",
        ["step, an upcast of order: it is called with one argument: write def step(fields)"],
    ),
    "a group that takes no effect": (
        "class Pack(Effect): ...\n"
        "@order.effect(at_once=1, per=lambda: 'all')\nasync def pack(job: Pack, run): ...",
        ["per=: it is called with one argument: write lambda job: …"],
    ),
    "a group that bounds nothing": (
        "class Pack(Effect):\n    host: str\n"
        "@order.effect(per=lambda job: job.host)\nasync def pack(job: Pack, run): ...",
        ["pack, a handler of order.effect", "write at_once=1, or leave per= out"],
    ),
    "a set of lists in a state": (
        "class Cart(Struct, frozen=True):\n    rows: frozenset[list[int]] = frozenset()\n"
        "cart = Entity('cart', Cart)",
        ["the state Cart cannot be stored", "the field rows is a set of what can change"],
    ),
    "a set of structs that change in an event": (
        "class Row(Struct): ...\nclass Filled(Event, type='filled'):\n    rows: set[Row]\n"
        "@order.evolve\ndef filled(state, event: Filled): return state",
        ["class Filled(Event)", "the field rows is a set of what can change"],
    ),
    "a state that is an array": (
        "class Cart(Struct, frozen=True, array_like=True):\n    item: str = ''\ncart = Entity('cart', Cart)",
        ["Entity('cart'): the state Cart", "leave out array_like=True"],
    ),
    "a query with other arguments": (
        "@order.query('get_order')\ndef get(state): ...",
        ["get, a query", "(state, who)"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_its_file_its_class_and_what_to_write(mistake: str, tmp_path: Path) -> None:
    source, parts = MISTAKES[mistake]
    with pytest.raises(DefinitionError) as raised:
        started(source if "__future__" in source else BEGIN + source, tmp_path)
    said = str(raised.value)
    assert said.startswith(str(tmp_path / "app_")), said
    assert said.partition(".py:")[2][0].isdecimal(), said
    assert "\n" not in said, said
    assert [part for part in parts if part not in said] == [], said


@pytest.mark.parametrize("entities", [Entity("order", Struct), [Struct], None])
def test_entities_are_given_as_a_list(entities: Any) -> None:
    with pytest.raises(DefinitionError, match=re.escape("entities=[order]")) as raised:
        Entities(entities)
    assert str(raised.value).startswith(__file__)
