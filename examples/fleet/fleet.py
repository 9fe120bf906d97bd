"""A fleet of 10,000 sensors: a timer reads each of them, and those that are too hot are in a list.

Run it with `python fleet.py` and open the address that it prints, or serve `huahuo serve --app fleet:app`.
"""

import asyncio
import math
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from huahuo import (
    Command,
    Context,
    Decision,
    Drop,
    Effect,
    EffectRun,
    Entity,
    Event,
    Every,
    Huahuo,
    HuahuoError,
    Outcome,
    Principal,
    Put,
    Refused,
    Rows,
    to,
)

SENSORS = 10_000
READ_EVERY_S = 60
ALARM_CELSIUS = 29.99  # some 140 of 10,000 sensors are hotter at any time
INSTALLED_AT_ONCE = 200


class Installed(Event, type="sensor_installed"):
    number: int


class Read(Event, type="sensor_read", prunable=True):  # `compact` may reduce them to the last
    celsius: float


class AlarmChanged(Event, type="alarm_changed"):  # for the group's stream: a page then asks for the list
    sensor: str
    alarm: bool


class Sensor(Struct, frozen=True):
    number: int = 0
    celsius: float = 0.0
    alarm: bool = False


class Install(Command, creates=True):  # no action: only the fleet's effect sends it
    number: int


class Measure(Command): ...


sensor = Entity("sensor", Sensor, key=str)  # sensor/s-00001, sensor/s-00002, …


@sensor.evolve
def installed(state: Sensor, event: Installed) -> Sensor:
    return replace(state, number=event.number)


@sensor.evolve
def read(state: Sensor, event: Read) -> Sensor:
    return replace(state, celsius=event.celsius, alarm=event.celsius > ALARM_CELSIUS)


@sensor.decide
def install(state: Sensor, command: Install, ctx: Context) -> Outcome:
    if state.number:
        return []  # the effect was cut short and does it again
    return Decision([Installed(number=command.number)], effects=[Every(READ_EVERY_S, Measure())])


@sensor.decide
def measure(state: Sensor, command: Measure, ctx: Context) -> Outcome:
    celsius = celsius_at(state.number, ctx.now_ms)
    alarm = celsius > ALARM_CELSIUS
    if alarm == state.alarm:
        return [Read(celsius=celsius)]
    name = str(ctx.id)
    row = Put("alarms", "", name, {"sensor": name, "celsius": celsius}) if alarm else Drop("alarms", "", name)
    changed = to("group/ops", AlarmChanged(sensor=name, alarm=alarm))
    return Decision([Read(celsius=celsius), changed], rows=[row])


def celsius_at(number: int, now_ms: int) -> float:
    """What a sensor would say: a warm wave that passes all of them in ten minutes."""
    return round(20 + 10 * math.sin(2 * math.pi * (now_ms / 600_000 + number / SENSORS)), 3)


@sensor.readers
def may_read_sensor(state: Sensor, who: Principal) -> bool:
    return "ops" in who.groups


class Wanted(Event, type="fleet_wanted"):
    sensors: int


class Grew(Event, type="fleet_grew", prunable=True):
    sensors: int


class Fleet(Struct, frozen=True):
    wanted: int = 0
    sensors: int = 0


class InstallFleet(Command, action="install_fleet", creates=True, open=True): ...


class Fill(Effect):
    sensors: int


fleet = Entity("fleet", Fleet, key=str)


@fleet.evolve
def wanted(state: Fleet, event: Wanted) -> Fleet:
    return replace(state, wanted=event.sensors)


@fleet.evolve
def grew(state: Fleet, event: Grew) -> Fleet:
    return replace(state, sensors=event.sensors)


@fleet.decide
def install_fleet(state: Fleet, command: InstallFleet, ctx: Context) -> Outcome:
    if "ops" not in ctx.groups:
        return Refused("forbidden", "only the group ops installs sensors")
    return [] if state.wanted else Decision([Wanted(sensors=SENSORS)], effects=[Fill(SENSORS)])


@fleet.effect
async def fill(job: Fill, run: EffectRun) -> None:
    for first in range(run.state.sensors + 1, job.sensors + 1, INSTALLED_AT_ONCE):
        some = range(first, min(first + INSTALLED_AT_ONCE, job.sensors + 1))
        await asyncio.gather(*(app.send(Install(number), sensor_id=f"s-{number:05}") for number in some))
        await run.emit(Grew(sensors=some[-1]))


@fleet.readers
def may_read_fleet(state: Fleet, who: Principal) -> bool:
    return "ops" in who.groups


app = Huahuo(entities=[sensor, fleet], data="fleet-data")


@app.query("get_alarms")
def get_alarms(who: Principal) -> Rows | Refused:
    return Rows("alarms") if "ops" in who.groups else Refused("forbidden", "only the group ops sees alarms")


async def main() -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(Path(__file__).parent))
    pages = ThreadingHTTPServer(("127.0.0.1", 8000), handler)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    async with app:
        print(f"http://127.0.0.1:8000/fleet.html#{app.token(1, 'operator', groups=('ops',))}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except (OSError, HuahuoError) as error:
        sys.exit(f"{error}: ports 8000 and 8765 must be free, so end the other example or program first")
