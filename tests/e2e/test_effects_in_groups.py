"""Effects with `per`, and the two forms of `CancelEffects`, of a served application that is killed twice."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.drivers.rawclient import RawClient, raw
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

APP = """
import asyncio
import os
from msgspec import Struct
from msgspec.structs import replace
from huahuo import CancelEffects, Command, Decision, Effect, Entity, Event, Every, Huahuo

class Booked(Event, type="parcel_booked"):
    host: str
class Moved(Event, type="parcel_moved"): ...
class Delivered(Event, type="parcel_delivered"): ...
class Reminded(Event, type="parcel_reminded"): ...
class CalledOff(Event, type="parcel_called_off"): ...
class Parcel(Struct, frozen=True):
    host: str = ""
class Book(Command, action="book", creates=True):
    host: str
class CallOff(Command, action="call_off"): ...
class LeaveIt(Command, action="leave_it"): ...
class Remind(Command): ...
class Deliver(Effect):
    host: str

parcel = Entity("parcel", Parcel)

@parcel.evolve
def booked(state: Parcel, event: Booked) -> Parcel:
    return replace(state, host=event.host)
@parcel.evolve
def moved(state: Parcel, event: Moved) -> Parcel:
    return state
@parcel.evolve
def delivered(state: Parcel, event: Delivered) -> Parcel:
    return state
@parcel.evolve
def reminded(state: Parcel, event: Reminded) -> Parcel:
    return state
@parcel.evolve
def called_off(state: Parcel, event: CalledOff) -> Parcel:
    return state

@parcel.decide
def book(state: Parcel, command: Book, ctx):
    return Decision([Booked(command.host)], effects=[Deliver(command.host), Every(0.2, Remind())])
@parcel.decide
def call_off(state: Parcel, command: CallOff, ctx):
    return Decision([CalledOff()], effects=[CancelEffects()])
@parcel.decide
def leave_it(state: Parcel, command: LeaveIt, ctx):
    return Decision([CalledOff()], effects=[CancelEffects(Deliver)])
@parcel.decide
def remind(state: Parcel, command: Remind, ctx):
    return [Reminded()]

@parcel.effect(at_once=1, per=lambda job: job.host)
async def deliver(job: Deliver, run) -> None:
    said = open("runs.txt", "a", buffering=1)
    print(os.getpid(), "begin", job.host, file=said)
    try:
        await run.emit(Moved())
        while not os.path.exists("cancelled"):
            await asyncio.sleep(0.01)
        await run.emit(Moved())
        await run.finish(Delivered())
    finally:
        print(os.getpid(), "end", job.host, file=said)

@parcel.readers
def may_read(state: Parcel, who) -> bool:
    return True

app = Huahuo(entities=[parcel], plugins=[])
"""
BOOKED = range(1, 7)
LEFT, CALLED_OFF = 5, 6
"""Of the parcels: its delivery alone is cancelled; all its effects and timers are."""


async def joined(server: Serving, client: RawClient) -> None:
    await client.authenticate(server.token(42, "alice"))
    for number in BOOKED:
        await follow(client, number)


async def follow(client: RawClient, number: int) -> None:
    log = client.seen[0]["log"]
    await client.say(action="subscribe", id=f"s{number}", stream=f"parcel/{number}", after=0, log=log)


def counts(client: RawClient, number: int) -> Counter[str]:
    return Counter(event["type"] for _, event in client.events(f"parcel/{number}"))


async def seen(client: RawClient, number: int, what: str, count: int = 1) -> None:
    while counts(client, number)[what] < count:
        await client.next()


async def book_all(server: Serving) -> None:
    async with raw(server.url.replace("http", "ws", 1), "huahuo.v1") as alice:
        await alice.authenticate(server.token(42, "alice"))
        for number in BOOKED:
            await alice.say(action="book", id=f"b{number}", host="ab"[number % 2])
            assert (await alice.until("success", id=f"b{number}"))["parcel_id"] == number
        await follow(alice, 1)
        await seen(alice, 1, "parcel_moved")


async def cancel_two(server: Serving) -> None:
    async with raw(server.url.replace("http", "ws", 1), "huahuo.v1") as alice:
        await joined(server, alice)
        for action, number in (("leave_it", LEFT), ("call_off", CALLED_OFF)):
            await alice.say(action=action, id=action, parcel_id=number)
            await alice.until("success", id=action)
        (server.data.parent / "cancelled").touch()  # until then no delivery ends
        await seen(alice, 1, "parcel_delivered")


async def wait_for_the_others(server: Serving) -> None:
    async with raw(server.url.replace("http", "ws", 1), "huahuo.v1") as alice:
        await joined(server, alice)
        for number in BOOKED[:4]:
            await seen(alice, number, "parcel_delivered")
        await seen(alice, LEFT, "parcel_reminded", counts(alice, LEFT)["parcel_reminded"] + 2)


def exported(server: Serving) -> list[dict[str, Any]]:
    words = ["replay", "export", "--app", "parcels:app", "--data", str(server.data)]
    done = subprocess.run(
        [sys.executable, "-m", "huahuo", *words], cwd=server.data.parent, env=server.environ,
        capture_output=True, text=True, timeout=WITHIN_S, check=True,
    )  # fmt: skip
    return [event for event in map(json.loads, done.stdout.splitlines()) if "stream" in event]


async def test_effects_of_a_group_run_one_at_a_time_and_cancelled_ones_stay_cancelled_over_two_kills(
    tmp_path: Path,
) -> None:
    (tmp_path / "parcels.py").write_text(APP)
    with serving(tmp_path / "data", app="parcels:app", folder=tmp_path) as server:
        await book_all(server)
        server.kill()
        server.start()
        await cancel_two(server)
        server.kill()
        server.start()
        await wait_for_the_others(server)
        server.stop()
        events = exported(server)
    running: dict[tuple[str, str], int] = {}
    for line in (tmp_path / "runs.txt").read_text().splitlines():
        process, what, host = line.split()
        running[process, host] = running.get((process, host), 0) + (1 if what == "begin" else -1)
        assert running[process, host] <= 1, "a host has one delivery at a time"
    ends = Counter(event["data"]["id"] for event in events if event["type"] == "effect_ended")
    assert set(ends.values()) == {1}
    assert len(ends) == len(BOOKED)
    delivered = Counter(event["stream"] for event in events if event["type"] == "parcel_delivered")
    assert delivered == {f"parcel/{number}": 1 for number in BOOKED[:4]}
    called_off = next(
        event["position"]
        for event in events
        if (event["type"], event["stream"]) == ("parcel_called_off", f"parcel/{CALLED_OFF}")
    )
    after = {event["type"] for event in events if event["position"] > called_off and
             event["entity"] == f"parcel/{CALLED_OFF}"}  # fmt: skip
    assert after <= {"effects_cancelled", "effect_ended", "timers_cancelled"}
    rung = Counter(event["command_id"] for event in events if event["type"] == "parcel_reminded")
    assert set(rung.values()) == {1}, "never twice for one due time"
