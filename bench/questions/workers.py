"""What could more processes than one gain on this machine at best?

The guess before the first run: on two cores nothing for private feeds of 500 users and a third for 5,000,
since one server's thread, its writer's thread and the kernel's part already keep more than one core busy and
the receivers want the rest; nothing for fan-out, which the kernel bounds.

An upper bound for gateway processes over one log: several servers that know nothing of each other, each
with a log, a source and an equal share of the users (or of the group's members), against one server with
all of them. Real gateways would share one writer and also pay for handing every committed event to the others
(`shipping` says how much). The same two receiver processes in every case, so the ratio is the servers'.
A group's events are published in every server, as gateways would each frame and send every event.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.clients.receivers import Receivers, Receiving
from bench.clients.report import FIELDS, Counts
from bench.clients.script import Script
from bench.harness.harness import Options, Sheet, interleaved
from bench.questions import fan_out, private_feeds
from bench.servers.peers.base import Running
from bench.servers.peers.huahuo import Huahuo

PROCESSES = (1, 2)
RECEIVERS = 2
FEEDS = [metric for metric in private_feeds.METRICS if not metric.name.endswith(("_at_10", "_at_90"))]


def run(options: Options) -> list[Sheet]:
    """See the module."""
    users, members = ((20,), (20,)) if options.quick else ((500, 5_000), (500,))
    sheets = []
    for count in users:
        sheets.append(sheet := Sheet(f"private feeds of {count:,} users", FEEDS, _case(1)))
        _rounds(sheet, count, options, group=False)
    for count in members:
        sheets.append(sheet := Sheet(f"fan-out to {count:,} connections", fan_out.METRICS, _case(1)))
        _rounds(sheet, count, options, group=True)
    return sheets


def _case(processes: int) -> str:
    return f"{processes} process{'es' if processes > 1 else ''}"


def _rounds(sheet: Sheet, count: int, options: Options, *, group: bool) -> None:
    cases = {_case(processes): processes for processes in PROCESSES}
    turns = 0

    def measure(case: str) -> None:
        nonlocal turns
        turns += 1
        place = options.folder / f"{sheet.title}-{turns}".replace(" ", "-")
        place.mkdir()
        one(case, sheet, count, cases[case], place, options, group=group)

    interleaved(cases, options.rounds, measure, [sheet])


def one(
    case: str, sheet: Sheet, count: int, processes: int, folder: Path, options: Options, *, group: bool
) -> None:
    """One round with this many processes."""
    with contextlib.ExitStack() as stack:
        peer, servers, receivers = Huahuo(), [], []
        for number in range(processes):
            place = folder / str(number)
            place.mkdir()
            servers.append(stack.enter_context(peer.start(place)))
        for running in servers:
            script = (peer.group if group else peer.feeds)(running, count // processes)
            receivers += [
                stack.enter_context(Receivers(part, folder, command=options.receiver))
                for part in _parts(script, RECEIVERS // processes)
            ]
        crowd, together = Crowd(servers), Together(receivers)
        together.ready()
        if group:
            fan_out.measure(case, sheet, count, crowd, together, options)
        else:
            private_feeds.measure(case, sheet, count, crowd, together, options, loads=(50,))


def _parts(script: Script, count: int) -> list[Script]:
    return [replace(script, clients=script.clients[number::count]) for number in range(count)]


class Crowd:
    """Several servers as if they were one: commands go to all, with an equal share of the work."""

    _SHARED = ("users", "in_flight", "per_s", "count")

    def __init__(self, servers: Sequence[Running]) -> None:
        self._servers = servers

    @property
    def control(self) -> "Crowd":
        """See `Driven`."""
        return self

    def cpu_s(self) -> float:
        """See `Driven`."""
        return sum(server.cpu_s() for server in self._servers)

    def send(self, **message: Any) -> None:
        """See `Control`. A group's events are everybody's, so only work by user is shared out."""
        if message["cmd"].startswith("feeds"):
            for name in self._SHARED:
                if name in message:
                    share = message[name] / len(self._servers)
                    message[name] = share if name == "per_s" else max(1, int(share))
        for server in self._servers:
            server.control.send(**message)

    def ask(self, timeout_s: float = 60, **message: Any) -> dict[str, Any]:
        """See `Control`."""
        self.send(**message)
        answers = [server.control.receive(timeout_s) for server in self._servers]
        latest = {name: max(answer[name] for answer in answers) for name in answers[0]}
        latest["start_ns"] = min(answer["start_ns"] for answer in answers)
        if message["cmd"].startswith("feeds"):
            latest["published"] = sum(answer["published"] for answer in answers)
        return latest


class Together(Receiving):
    """Several receiver processes as if they were one."""

    def __init__(self, receivers: Sequence[Receivers]) -> None:
        self._receivers = receivers
        self.size = sum(one.size for one in receivers)

    def value(self, field: str) -> int:
        """See `Receiving`."""
        values = [one.value(field) for one in self._receivers]
        match field:
            case "lowest":
                return min(values)
            case "first_ns":
                return min((value for value in values if value), default=0)
            case "last_ns":
                return max(values)
            case _:
                return sum(values)

    def counts(self) -> Counts:
        """See `Receiving`."""
        buckets = zip(*(one.counts().buckets for one in self._receivers), strict=True)
        return Counts(tuple(map(self.value, FIELDS)), tuple(map(sum, buckets)))

    def cpu_s(self) -> float:
        """See `Receiving`."""
        return sum(one.cpu_s() for one in self._receivers)

    def ended(self) -> bool:
        """See `Receiving`."""
        return any(one.ended() for one in self._receivers)
