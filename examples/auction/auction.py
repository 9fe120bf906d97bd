"""An auction: live lists by category and end, bids, a timer, the winner's mail, a watch list, an import.

Run it with `python auction.py [lots.csv]`, and `python -m http.server` beside it for the page.
"""

import asyncio
import csv
import sys
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from huahuo import After, Command, Decision, Effect, Entity, Event, Huahuo, Put, Refused, Rows, UserId

MAILS = Path("auction-mails")


class Opened(Event, type="lot_opened"):
    category: str
    title: str
    ends_ms: int


class Bidden(Event, type="lot_bid"):
    bidder: UserId
    amount: int


class Watched(Event, type="lot_watched"):
    user: UserId


class Ended(Event, type="lot_ended"): ...


class Mailed(Event, type="lot_mailed"): ...


class Lot(Struct, frozen=True):
    category: str = ""
    title: str = ""
    ends_ms: int = 0
    price: int = 0
    bidder: UserId = 0
    watchers: tuple[UserId, ...] = ()
    ended: bool = False


class Open(Command, action="open_lot", creates=True):
    category: str
    title: str
    seconds: int


class Bid(Command, action="bid"):
    amount: int


class Watch(Command, action="watch_lot"): ...


class End(Command): ...  # no action: only the timer sends it


class MailWinner(Effect): ...


lot = Entity("lot", Lot)
lot.readers(lambda state, who: True)


@lot.evolve
def opened(state: Lot, event: Opened) -> Lot:
    return Lot(event.category, event.title, event.ends_ms)


@lot.evolve
def bidden(state: Lot, event: Bidden) -> Lot:
    return replace(state, bidder=event.bidder, price=event.amount)


@lot.evolve
def watched(state: Lot, event: Watched) -> Lot:
    return replace(state, watchers=(*state.watchers, event.user))


@lot.evolve
def ended(state: Lot, event: Ended) -> Lot:
    return replace(state, ended=True)


@lot.evolve
def mailed(state: Lot, event: Mailed) -> Lot:
    return state


@lot.decide
def open_lot(state: Lot, command: Open, ctx):
    ends_ms = ctx.now_ms + 1000 * command.seconds
    return Decision(
        [Opened(command.category, command.title, ends_ms)], effects=[After(command.seconds, End())]
    )


@lot.decide
def bid(state: Lot, command: Bid, ctx):
    if state.ended or command.amount <= state.price:
        return Refused("conflict", f"bid more than {state.price}, before the end")
    return [Bidden(ctx.user_id or 0, command.amount)]


@lot.decide
def watch(state: Lot, command: Watch, ctx):
    return [] if ctx.user_id in state.watchers else [Watched(ctx.user_id or 0)]


@lot.decide
def end(state: Lot, command: End, ctx):
    return Decision([Ended()], effects=[MailWinner()] if state.price else [])


@lot.effect(retries=5)
async def mail_winner(job: MailWinner, run) -> None:
    mail = EmailMessage()
    mail["To"], mail["Subject"] = f"{run.state.bidder}@example.com", f"{run.state.title} is yours"
    MAILS.mkdir(exist_ok=True)  # a program that sends mails takes them from here
    (MAILS / f"{run.id}.eml").write_bytes(mail.as_bytes())
    await run.finish(Mailed())


@lot.rows("lots")  # one row for all, and one for each who watches it
def rows(state: Lot, id: int) -> Sequence[Put]:
    key, row = f"{state.ends_ms:016d}/{id}", {"lot_id": id, "title": state.title, "price": state.price}
    parts = [f"in {state.category}", *(f"of {user}" for user in state.watchers)]
    return [] if state.ended else [Put("lots", part, key, row) for part in parts]


class Category(Struct, frozen=True):
    category: str


app = Huahuo(entities=[lot], data="auction-data")


@app.list("open_lots")
def open_lots(who, fields: Category) -> Rows:
    return Rows("lots", part=f"in {fields.category}", order="ascending")


@app.list("watched_lots")
def watched_lots(who) -> Rows:
    return Rows("lots", part=f"of {who.user_id}", order="ascending")


async def import_lots(path: Path) -> None:
    """Open the lots of a file: lines of category, title and seconds. A repeat opens none twice."""
    lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    async with app.job(path.name) as job:
        for number, (category, title, seconds) in enumerate(lines, 1):
            name, command = f"{path.name} {number}", Open(category, title, int(seconds))
            await app.send(command, command_id=name)
            await job.progress(100 * number // len(lines), f"{number} lots")


async def main(*paths: str) -> None:
    async with app:
        for number, name in enumerate(("alice", "bob"), 1):
            print(f"{name}: http://127.0.0.1:8000/auction.html#{app.token(number, name)}", flush=True)
        for path in paths:
            await import_lots(Path(path))
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
