"""An application with lots in categories, and the live lists over them."""

from pathlib import Path
from typing import Any

from msgspec import Struct

from huahuo import (
    Command,
    Context,
    Decision,
    Drop,
    Entity,
    Event,
    Huahuo,
    Outcome,
    Principal,
    Put,
    Refused,
    Rows,
)


class Offered(Event, type="lot_offered"):
    category: str
    price: int


class Closed(Event, type="lot_closed"): ...


class Invited(Event, type="guest_invited", rights=True):
    guest: str


class Lot(Struct, frozen=True):
    category: str = ""


class Room(Struct, frozen=True):
    guests: tuple[str, ...] = ()


class Offer(Command, action="offer_lot", creates=True, open=True):
    category: str
    price: int


class Close(Command, action="close_lot", open=True): ...


class Invite(Command, action="invite_guest", creates=True, open=True):
    guest: str


class Category(Struct, frozen=True):
    category: str
    at_least: str | None = None


def lots() -> Entity[Lot]:
    lot = Entity("lot", Lot, key=str)

    @lot.evolve
    def offered(state: Lot, event: Offered) -> Lot:
        return Lot(event.category)

    @lot.evolve
    def closed(state: Lot, event: Closed) -> Lot:
        return Lot()

    @lot.decide
    def offer(state: Lot, command: Offer, ctx: Context) -> Outcome:
        row = Put("lots", command.category, str(ctx.id), {"price": command.price})
        return Decision([Offered(command.category, command.price)], rows=[row])

    @lot.decide
    def close(state: Lot, command: Close, ctx: Context) -> Outcome:
        return Decision([Closed()], rows=[Drop("lots", state.category, str(ctx.id))])

    return lot


def rooms() -> Entity[Room]:
    room = Entity("room", Room, key=str)

    @room.evolve
    def invited(state: Room, event: Invited) -> Room:
        return Room((event.guest,))

    @room.decide
    def invite(state: Room, command: Invite, ctx: Context) -> Outcome:
        return Decision([Invited(command.guest)])

    room.readers(lambda state, who: True)
    return room


def application(data: Path, guests: set[str], **more: Any) -> Huahuo:
    app = Huahuo(entities=[lots(), rooms()], data=data, port=0, **more)

    @app.list("lots")
    def lots_of(who: Principal, fields: Category) -> Rows:
        parts = fields.category.split("+")
        part = parts[0] if len(parts) == 1 else parts
        return Rows("lots", part, order="ascending", since=fields.at_least)

    @app.list("newest")
    def newest(who: Principal) -> Rows:
        return Rows("lots", "cars")

    @app.list("invited")
    def invited(who: Principal) -> Rows | Refused:
        if who.username not in guests:
            return Refused("denied", "by invitation only")
        return Rows("lots", "cars" if "everything" not in guests else "vans", order="ascending")

    @app.list("broken")
    def broken(who: Principal) -> Any:
        raise KeyError("canary")

    return app
