"""Halls whose seats are booked: an application for nodes that command one entity at the same moment."""

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from huahuo import Command, Context, Entity, Event, Huahuo, Outcome, Refused


class Booked(Event, type="seat_booked"):
    seat: int


class Freed(Event, type="seat_freed"):
    seat: int


class Hall(Struct, frozen=True):
    taken: frozenset[int] = frozenset()


class Book(Command, action="book_seat", creates=True):
    seat: int


class Free(Command, action="free_seat"):
    seat: int


def halls() -> Entity[Hall]:
    hall = Entity("hall", Hall, key=str)

    @hall.evolve
    def booked(state: Hall, event: Booked) -> Hall:
        return replace(state, taken=state.taken | {event.seat})

    @hall.evolve
    def freed(state: Hall, event: Freed) -> Hall:
        return replace(state, taken=state.taken - {event.seat})

    @hall.decide
    def book(state: Hall, command: Book, ctx: Context) -> Outcome:
        return Refused("taken") if command.seat in state.taken else [Booked(command.seat)]

    @hall.decide
    def free(state: Hall, command: Free, ctx: Context) -> Outcome:
        return [Freed(command.seat)] if command.seat in state.taken else Refused("not_taken")

    @hall.readers
    def anybody(state: Hall, who: Any) -> bool:
        return True

    return hall


app = Huahuo(entities=[halls()])
