"""A chat: rooms with names of their own (`key=str`), who is in them, and what they say.

Run it with `python chat.py` and open the addresses that it prints, or serve `huahuo serve --app chat:app`.
"""

import asyncio
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from huahuo import Command, Context, Entity, Event, Huahuo, HuahuoError, Outcome, Principal, Refused, UserId

RECENT = 50
TEXT_CHARS_MAX = 2_000


class Entered(Event, type="room_entered", rights=True):  # `rights`: who may read is judged again after it
    user: UserId
    name: str


class Left(Event, type="room_left", rights=True):
    user: UserId


class Said(Event, type="room_said"):
    name: str
    text: str


class Line(Struct, frozen=True):
    name: str
    text: str


class Room(Struct, frozen=True):
    present: dict[str, str] = {}
    recent: tuple[Line, ...] = ()


class Enter(Command, action="enter_room", creates=True, open=True): ...  # the message carries `room_id`


class Say(Command, action="say"):
    text: str


class Leave(Command, action="leave_room"): ...


room = Entity("room", Room, key=str)  # room/lobby, room/kitchen, …: the first who enters creates it


@room.evolve
def entered(state: Room, event: Entered) -> Room:
    return replace(state, present={**state.present, str(event.user): event.name})


@room.evolve
def left(state: Room, event: Left) -> Room:
    return replace(
        state, present={user: name for user, name in state.present.items() if user != str(event.user)}
    )


@room.evolve
def said(state: Room, event: Said) -> Room:
    return replace(state, recent=(*state.recent, Line(event.name, event.text))[-RECENT:])


@room.decide
def enter(state: Room, command: Enter, ctx: Context) -> Outcome:
    user = ctx.user_id or 0
    return [] if str(user) in state.present else [Entered(user=user, name=ctx.username)]


@room.decide
def say(state: Room, command: Say, ctx: Context) -> Outcome:
    if not 0 < len(command.text) <= TEXT_CHARS_MAX:
        return Refused("invalid_field", f"text: 1 to {TEXT_CHARS_MAX} characters")
    return [Said(name=ctx.username, text=command.text)]


@room.decide
def leave(state: Room, command: Leave, ctx: Context) -> Outcome:
    user = ctx.user_id or 0
    return [Left(user=user)] if str(user) in state.present else []


@room.readers
def may_read(state: Room, who: Principal) -> bool:
    return str(who.user_id) in state.present  # and who may not read may not speak


app = Huahuo(entities=[room], data="chat-data")


async def main() -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(Path(__file__).parent))
    pages = ThreadingHTTPServer(("127.0.0.1", 8000), handler)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    async with app:
        for number, name in enumerate(("alice", "bob"), 1):
            print(f"{name}: http://127.0.0.1:8000/chat.html#{app.token(number, name)}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except (OSError, HuahuoError) as error:
        sys.exit(f"{error}: ports 8000 and 8765 must be free, so end the other example or program first")
