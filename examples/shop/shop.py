"""A shop as a team writes it: orders that are packed, shipped, cancelled, and that expire.

Serve it with `huahuo serve --app shop:app` in this folder.
"""

from msgspec import Struct
from msgspec.structs import replace

from huahuo import After, Command, Decision, Effect, Entity, Event, Huahuo, Refused, UserId, to


class Placed(Event, type="order_placed"):  # the stored name is a text of ours, never a Python path
    owner: UserId  # a number or a text, as in your tokens
    item: str


class Packed(Event, type="order_progress", prunable=True):  # `compact` may reduce it to its last report
    percent: int


class Shipped(Event, type="order_shipped"): ...


class Expired(Event, type="order_expired"): ...


class Noted(Event, type="order_noted"):  # for the user's own stream, so it needs no evolve
    order_id: int


class Order(Struct, frozen=True):
    owner: UserId = 0
    item: str = ""
    percent: int = 0
    status: str = "new"


class Place(Command, action="place_order", creates=True):
    item: str


class Cancel(Command, action="cancel_order"): ...  # the message carries `order_id`


class Expire(Command): ...  # no action: nobody outside can send it


class Pack(Effect): ...


order = Entity("order", Order)  # streams order/1, order/2, …; ids from the log


@order.evolve
def placed(state: Order, event: Placed) -> Order:
    return replace(state, owner=event.owner, item=event.item, status="placed")


@order.evolve
def packed(state: Order, event: Packed) -> Order:
    return replace(state, percent=event.percent)


@order.evolve
def shipped(state: Order, event: Shipped) -> Order:
    return replace(state, status="shipped")


@order.evolve
def expired(state: Order, event: Expired) -> Order:
    return replace(state, status="expired")


@order.decide
def place(state: Order, command: Place, ctx):
    if not command.item:
        return Refused("invalid_field", "item must not be empty")
    return Decision(
        [Placed(owner=ctx.user_id, item=command.item), to(f"user/{ctx.user_id}", Noted(order_id=ctx.id))],
        effects=[Pack(), After(3600, Expire())],
    )


@order.decide
def cancel(state: Order, command: Cancel, ctx):
    return [Expired()] if state.status == "placed" else Refused("conflict", "already on its way")


@order.decide
def expire(state: Order, command: Expire, ctx):
    return [Expired()] if state.status == "placed" else []


@order.effect(retries=5)  # durable: goes on after a crash until it returns or gives up
async def pack(job: Pack, run) -> None:
    for percent in range(0, 101, 10):
        await run.emit(Packed(percent=percent))  # refused once this run is over or was taken over
    await run.finish(Shipped())  # exactly once: the effect ends in the same commit


@order.readers
def may_read(state: Order, who) -> bool:
    return who.user_id == state.owner


app = Huahuo(entities=[order], data="shop-data")
