"""An entity with a natural key: rooms that users join."""

from msgspec import Struct
from msgspec.structs import replace

from huahuo import Command, Context, Decision, Entity, Event, Outcome


class Joined(Event, type="room_joined"):
    user: int


class Room(Struct, frozen=True):
    users: tuple[int, ...] = ()


class Join(Command, action="join_room", creates=True, open=True): ...


class Tidy(Command, action="tidy_room"): ...


def rooms(*, may_read: bool = True) -> Entity[Room]:
    room = Entity("room", Room, key=str)

    @room.evolve
    def joined(state: Room, event: Joined) -> Room:
        return replace(state, users=(*state.users, event.user))

    @room.decide
    def join(state: Room, command: Join, ctx: Context) -> Outcome:
        return Decision([Joined(int(ctx.user_id or 0))], reply={"users": len(state.users) + 1})

    @room.decide
    def tidy(state: Room, command: Tidy, ctx: Context) -> Outcome:
        return []

    if may_read:
        room.readers(lambda state, who: who.user_id in state.users)
    return room
