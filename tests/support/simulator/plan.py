"""What one seed stands for: who works how much, and which faults strike how often. Pure.

Its kind follows from the seed alone (`KINDS`), so that the sums of many seeds are known beforehand:

* `dense`: two or three minutes in which the service dies every few seconds, in turns on each engine.
* `dying`: few devices and a small log, and a service that lives for two or three seconds.
* `returning`: many devices that say next to nothing, and lose their connections again and again.
* `idle`: many devices for two or three hours, of which most only keep their
  connections; tokens end, faults are rare.
* `nodes`: two or three whole services that share an ordered log, behind a balancer. The remainder says
  nothing of it: these are the seeds from `CLUSTERS` on.
* `deploys`: newer code comes in the midst of a run. These are the seeds from `DEPLOYS` on.
* `rolling`: newer code comes to one node after the other, and older code comes back. These are the seeds from
  `ROLLING` on.
* `granted`: mailboxes with grants on several nodes. These are the seeds from `GRANTED` on.
* `mixed`: storms of resets, hours with rare faults, and minutes with many kinds of them.

Swarm testing: each seed leaves out most kinds of faults and draws the rates of the others anew, because
faults that strike all the time hide what happens between them.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

FAULTS: Final[dict[str, tuple[float, float]]] = {
    "power": (25, 90),
    "kill": (20, 90),
    "cut in sync": (20, 90),
    "write fails": (30, 200),
    "sync fails": (30, 200),
    "disk full": (60, 300),
    "fence": (60, 300),
    "second writer": (60, 300),
    "partition": (20, 120),
    "slow link": (40, 200),
    "reset": (6, 40),
    "clock": (60, 400),
    "stop server": (60, 300),
    "stop device": (40, 200),
    "expire": (60, 300),
    "revoke": (60, 300),
    "drain": (30, 150),
    "restart device": (20, 120),
    "mail server": (60, 200),
}
"""By kind: between which two mean times, in seconds, a seed draws its own."""

NODE_FAULTS: Final[dict[str, tuple[float, float]]] = {
    "log cut off": (15, 60),
    "log down": (20, 90),
    "nodes apart": (20, 90),
    "node unseen": (20, 90),
    "slow log": (20, 90),
    "node clock": (20, 90),
    "stop server": (15, 60),
    "kill": (8, 40),
    "power": (8, 40),
    "drain": (15, 60),
    "cut in sync": (15, 60),
    "write fails": (20, 90),
    "sync fails": (20, 90),
    "fence": (30, 120),
    "partition": (20, 90),
    "reset": (4, 30),
    "restart device": (10, 60),
    "stop device": (20, 90),
}
"""The same for runs of several nodes: those of a service strike one of them."""

GRANT_FAULTS: Final[dict[str, float]] = {
    "crash at tokens": 8.0,
    "power": 15.0,
    "kill": 15.0,
    "cut in sync": 10.0,
    "write fails": 10.0,
    "sync fails": 10.0,
    "disk full": 60.0,
    "fence": 20.0,
    "drain": 30.0,
    "stop server": 40.0,
    "end grant": 30.0,
    "reset": 10.0,
}
"""By kind: the mean time in the tour with grants."""

SHARED_GRANT_FAULTS: Final[dict[str, tuple[float, float]]] = {
    "log cut off": (20, 60),
    "log down": (30, 90),
    "nodes apart": (20, 60),
    "slow log": (20, 60),
    "node clock": (30, 90),
    "stop server": (20, 60),
    "drain": (15, 60),
    "write fails": (20, 60),
    "fence": (30, 90),
    "end grant": (30, 90),
    "reset": (8, 30),
}
"""The same for runs of several nodes with grants, beside the ways to die."""

KINDS: Final = ("idle", "mixed", *["dying", "returning", "dense"] * 4, "dying", "dying")
"""By the seed's remainder, the kind of its run."""

HEARTBEAT_S: Final = 10
TOURS: Final = 1_000_000
"""The first seed of `tours`."""
CLUSTERS: Final = 2_000_000
"""From this seed on a run is of several nodes."""
DEPLOYS: Final = 3_000_000
"""From this seed on newer code comes in the midst of a run."""
ROLLING: Final = 4_000_000
"""From this seed on newer code comes to one node after the other."""
GRANTED: Final = 5_000_000
"""From this seed on several nodes use grants."""
CLUSTERS_EACH: Final = len(KINDS)
ROLLING_EACH: Final = 2 * CLUSTERS_EACH
"""Beside every so many seeds, one run of kind `rolling` is played, and one of kind `granted`."""

WORK: Final[dict[str, float]] = {
    "publish": 6,
    "burst": 2,
    "open": 3,
    "add": 6,
    "stop": 1,
    "foreign": 0.5,
    "again": 1,
    "list": 0.5,
    "job": 1,
    "check": 1,
    "lie": 0.2,
    "twin": 0.1,
    "knock": 0.2,
}
"""By kind of work: its usual weight."""
NEWER_WORK: Final[dict[str, float]] = {"open": 3.0, "add": 6.0, "print": 3.0, "seal": 2.0}
"""What shows that there are two versions of the code."""


@dataclass(frozen=True)
class Plan:
    """A run. `faults` and `work`: by kind, mean seconds between two, and weights."""

    seed: int
    seconds: float
    devices: int
    users: int
    engine: str
    pace_s: float
    faults: dict[str, float] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)
    down_s: float = 8.0
    """How long at most the service stays down before it is started again."""
    heartbeat_s: int = HEARTBEAT_S
    kind: str = "mixed"
    ttl_s: float = 10_000_000.0
    """How long a token of a device lives."""
    over_http: bool = True
    """Whether the network of one device lets no WebSocket through."""
    readers: int = 0
    """Programs without a client library, which read a stream by server-sent events or by pages that wait."""
    hooks: bool = False
    """Whether a user has a webhook."""
    nodes: int = 1
    """How many whole services share an ordered log."""
    grants: int = 0
    """How many mailboxes sign in with a grant."""
    erases: bool = False
    """Whether a user is erased in the midst."""

    @property
    def client_hours(self) -> float:
        """How long all its devices live together."""
        return self.devices * self.seconds / 3600


def plan(seed: int, hours: float | None = None, engine: str | None = None) -> Plan:
    """The run of a seed. `hours`: how long its service lives; None: the seed says."""
    chance = Random(f"plan {seed}")
    kind = _kind(seed)
    drawn = _DRAWS[kind](_usual(seed, chance), chance)
    drawn = replace(drawn, kind=kind, engine=engine or drawn.engine, **_others(seed, drawn))
    drawn = replace(drawn, erases=drawn.engine == "sqlite" and seed // 32 % 2 == 0)
    return drawn if hours is None else replace(drawn, seconds=hours * 3600)


def _kind(seed: int) -> str:
    first = {GRANTED: "granted", ROLLING: "rolling", DEPLOYS: "deploys", CLUSTERS: "nodes"}
    return next((kind for least, kind in first.items() if seed >= least), KINDS[seed % len(KINDS)])


def _others(seed: int, drawn: Plan) -> dict[str, Any]:
    """Clients that are no devices, where something is to be seen by them."""
    chance = Random(f"others {seed}")
    if drawn.heartbeat_s > HEARTBEAT_S or drawn.work == {}:
        return {}
    return {
        "readers": chance.randint(0, 4), "hooks": chance.random() < 0.5
    }  # fmt: skip


def _usual(seed: int, chance: Random) -> Plan:
    kinds = sorted(FAULTS)
    chosen = chance.sample(kinds, chance.randint(2, 8))
    if chance.random() < 0.75:
        chosen.append(chance.choice(["power", "kill", "cut in sync"]))
    if "revoke" in chosen and "clock" in chosen:
        chosen.remove("clock")  # a token of before a revocation stays revoked when the clock goes back
    faults = {kind: chance.uniform(*FAULTS[kind]) for kind in sorted(set(chosen))}
    work = {kind: weight * chance.choice((0, 0.5, 1, 1, 3)) for kind, weight in WORK.items()}
    work["publish"] += 1
    return Plan(
        seed,
        chance.choice((600.0, 900.0, 1200.0, 1800.0)),
        devices := chance.randint(8, 40),
        users=max(2, devices // chance.randint(1, 3)),
        engine="sqlite" if chance.random() < 0.05 else "memory",
        pace_s=chance.uniform(10, 90),
        faults=faults,
        work=work,
    )


def _mixed(usual: Plan, chance: Random) -> Plan:
    shape = chance.random()
    return _storm(usual, chance) if shape < 0.35 else _long(usual, chance) if shape < 0.55 else usual


def _dense(usual: Plan, chance: Random) -> Plan:
    """The service dies every few seconds, in two of three ways, and connections are lost in between."""
    some = sorted(chance.sample(sorted(usual.faults), min(3, len(usual.faults))))
    faults = {kind: usual.faults[kind] for kind in some}
    faults |= {way: chance.uniform(4, 9) for way in chance.sample(["kill", "power", "cut in sync"], 2)}
    faults["reset"] = chance.uniform(2, 6)
    devices = chance.choice((20, 24, 30, 40, 60))
    return replace(
        usual, seconds=chance.choice((120.0, 150.0, 180.0)), devices=devices, down_s=chance.uniform(0.2, 1.0),
        users=max(2, devices // chance.randint(1, 3)), engine="sqlite" if usual.seed // 16 % 2 else "memory",
        pace_s=chance.uniform(10, 60), faults=faults, over_http=chance.random() < 0.3,
    )  # fmt: skip


def _dying(usual: Plan, chance: Random) -> Plan:
    """Lives of two or three seconds over a small log, in turns on each engine: many crashes, little else."""
    faults = {way: chance.uniform(4.0, 8.0) for way in chance.sample(["kill", "power", "cut in sync"], 2)}
    devices = chance.randint(3, 8)
    return replace(
        usual, seconds=chance.choice((240.0, 300.0)), devices=devices, down_s=chance.uniform(0.15, 0.4),
        users=max(2, devices // 2), engine="sqlite" if usual.seed // 16 % 2 else "memory",
        pace_s=chance.uniform(4, 12), faults=faults, over_http=False,
    )  # fmt: skip


def _returning(usual: Plan, chance: Random) -> Plan:
    """Many devices that say next to nothing. Their connections are reset all the time."""
    faults = {"reset": chance.uniform(1.0, 2.0), "kill": chance.uniform(10, 30)}
    some = chance.choice(sorted(usual.faults))
    devices = chance.choice((30, 40, 50))
    return replace(
        usual, seconds=chance.choice((150.0, 180.0)), devices=devices, down_s=chance.uniform(0.2, 1.0),
        users=max(2, devices // chance.randint(1, 3)), engine="memory", pace_s=chance.uniform(200, 400),
        faults={some: usual.faults[some], **faults}, over_http=False,
    )  # fmt: skip


def _idle(usual: Plan, chance: Random) -> Plan:
    """Hours in which many devices hardly say anything. Their tokens end, and faults are rare."""
    faults = {kind: mean_s * 40 for kind, mean_s in usual.faults.items()}
    faults["kill"] = chance.uniform(1200, 3600)
    devices = chance.randint(40, 60)
    return replace(
        usual, seconds=chance.choice((7200.0, 10800.0)), devices=devices, users=devices // 2, engine="memory",
        pace_s=chance.uniform(1800, 3600), faults=faults, heartbeat_s=chance.choice((30, 60, 120)),
        ttl_s=chance.choice((900.0, 3600.0, 10_000_000.0)),
    )  # fmt: skip


def _cluster(usual: Plan, chance: Random) -> Plan:
    """Two or three whole services over one ordered log, behind a balancer."""
    kinds = sorted(NODE_FAULTS)
    faults = {kind: chance.uniform(*NODE_FAULTS[kind]) for kind in sorted(chance.sample(kinds, 5))}
    faults |= {way: chance.uniform(8, 30) for way in chance.sample(["kill", "power"], 1)}
    devices = chance.randint(4, 10)
    return replace(
        usual, seconds=chance.choice((90.0, 120.0, 180.0)), devices=devices, down_s=chance.uniform(0.3, 4.0),
        users=max(2, devices // 2), engine="memory", pace_s=chance.uniform(4, 20), faults=faults,
        over_http=chance.random() < 0.3, nodes=chance.choice((2, 3, 3)),
    )  # fmt: skip


def _rolling(usual: Plan, chance: Random) -> Plan:
    """Nodes of two versions at once. In some runs the last ones keep the older code to the end."""
    drawn = _cluster(usual, chance)
    faults = {kind: drawn.faults[kind] for kind in sorted(chance.sample(sorted(drawn.faults), 3))}
    faults |= {"kill": chance.uniform(10, 30), "roll": chance.uniform(8, 25)}
    if chance.random() < 0.6:
        faults["go back"] = chance.uniform(15, 40)
    return replace(
        drawn, seconds=chance.choice((90.0, 120.0)), faults=faults, pace_s=chance.uniform(3, 8),
        work={**usual.work, **NEWER_WORK},
    )  # fmt: skip


def _granted(usual: Plan, chance: Random) -> Plan:
    """Grants on several nodes, whose clients go from one node to another. Sign-ins are all the work."""
    kinds = sorted(SHARED_GRANT_FAULTS)
    faults = {kind: chance.uniform(*SHARED_GRANT_FAULTS[kind]) for kind in sorted(chance.sample(kinds, 4))}
    faults |= {way: chance.uniform(10, 30) for way in chance.sample(["kill", "power", "cut in sync"], 1)}
    faults["crash at tokens"] = chance.uniform(6, 15)
    return replace(
        usual, seconds=chance.choice((90.0, 120.0)), devices=chance.randint(2, 5), users=2,
        down_s=chance.uniform(0.3, 4.0), engine="memory", pace_s=chance.uniform(8, 20), faults=faults,
        over_http=False, nodes=chance.choice((2, 3)), grants=chance.randint(2, 4),
        work={**usual.work, "check": 0.0, "job": 0.0},
    )  # fmt: skip


def _deploys(usual: Plan, chance: Random) -> Plan:
    """Newer code comes in the midst, by a drain, a crash in it, or a start after a crash."""
    faults = {kind: usual.faults[kind] for kind in sorted(chance.sample(sorted(usual.faults), 2))}
    faults |= {way: chance.uniform(6, 20) for way in chance.sample(["kill", "power", "cut in sync"], 2)}
    faults["deploy"] = chance.uniform(15, 50)
    devices = chance.randint(3, 8)
    return replace(
        usual, seconds=chance.choice((90.0, 120.0)), devices=devices, down_s=chance.uniform(0.2, 2.0),
        users=max(2, devices // 2), engine=chance.choice(("memory", "sqlite")), pace_s=chance.uniform(3, 8),
        faults=faults, over_http=False, work={**usual.work, **NEWER_WORK},
    )  # fmt: skip


def _storm(usual: Plan, chance: Random) -> Plan:
    """The service dies every few seconds, and all devices come back each time."""
    some = sorted(chance.sample(sorted(usual.faults), min(2, len(usual.faults))))
    faults = {kind: usual.faults[kind] for kind in some}
    faults["kill"] = chance.uniform(4, 12)
    faults["reset"] = chance.uniform(2, 10)
    faults |= {"power": chance.uniform(15, 60)} if chance.random() < 0.5 else {}
    return replace(
        usual, seconds=chance.choice((120.0, 240.0)), devices=chance.randint(16, 40),
        pace_s=chance.uniform(20, 120), faults=faults, down_s=chance.uniform(0.2, 3.0),
    )  # fmt: skip


def _long(usual: Plan, chance: Random) -> Plan:
    """Hours with rare faults and little work."""
    faults = {kind: mean_s * 12 for kind, mean_s in usual.faults.items()}
    return replace(
        usual, seconds=chance.choice((5400.0, 10800.0)), pace_s=chance.uniform(300, 1200), faults=faults,
        heartbeat_s=chance.choice((25, 60)),
    )  # fmt: skip


_OTHERS: Final = ("readers", "hooks", "grants", "erases")
_DRAWS: Final[dict[str, Callable[[Plan, Random], Plan]]] = {
    "dense": _dense, "deploys": _deploys, "dying": _dying, "granted": _granted, "idle": _idle,
    "mixed": _mixed, "nodes": _cluster, "returning": _returning, "rolling": _rolling,
}  # fmt: skip


def tours() -> list[Plan]:
    """Short runs of many kinds of faults and work. Together they reach every mark; gates begin with them."""
    work = dict.fromkeys(WORK, 2.0)
    usual = Plan(
        TOURS,
        300.0,
        devices=9,
        users=4,
        engine="memory",
        pace_s=4.0,
        work=work,
        kind="tour",
        down_s=2.0,
        readers=4,
        hooks=True,
    )
    often = {kind: between[0] / 2 for kind, between in FAULTS.items()}
    disk = (
        "power",
        "kill",
        "cut in sync",
        "write fails",
        "sync fails",
        "disk full",
        "fence",
        "second writer",
    )
    way = (
        "kill",
        "partition",
        "slow link",
        "reset",
        "stop server",
        "stop device",
        "restart device",
        "expire",
    )
    rest = ("kill", "clock", "drain", "reset", "restart device")
    found = [{kind: often[kind] for kind in kinds} for kinds in (disk, way, rest)]
    found[-1]["clock"] = 10.0
    found.append({"revoke": 20.0, "kill": 30.0, "mail server": 3.0, "slow link": 20.0})
    alone = [replace(usual, seed=TOURS + number, faults=faults) for number, faults in enumerate(found)]
    shared = {kind: between[0] for kind, between in NODE_FAULTS.items()}
    nodes = replace(usual, seed=TOURS + len(alone), seconds=120.0, faults=shared, nodes=3)
    newer = replace(
        usual, seed=TOURS + len(alone) + 1, seconds=90.0, faults={"deploy": 12.0, "kill": 15.0},
        work={**work, "print": 4.0, "seal": 2.0},
    )  # fmt: skip
    rolling = replace(
        nodes, seed=TOURS + len(alone) + 4, seconds=90.0, work=newer.work,
        faults={"roll": 12.0, "go back": 35.0, "kill": 15.0, "log down": 30.0},
    )  # fmt: skip
    tokens = replace(
        usual, seed=TOURS + len(alone) + 2, seconds=150.0, devices=2, users=2, readers=0,
        hooks=False, work={**work, "check": 0.0, "job": 0.0}, grants=4,
        faults=GRANT_FAULTS,
    )  # fmt: skip
    safe = replace(tokens, seed=TOURS + len(alone) + 3, seconds=100.0, engine="sqlite", erases=True)
    shared = {"crash at tokens": 8.0, "kill": 20.0, "drain": 20.0, "end grant": 40.0, "reset": 8.0}
    granted = replace(tokens, seed=TOURS + len(alone) + 5, seconds=100.0, devices=4, nodes=3, faults=shared)
    return [*alone, nodes, newer, rolling, safe, tokens, granted]


def with_clusters(seeds: Iterable[int]) -> Iterator[int]:
    """Beside each `CLUSTERS_EACH` seeds one of several nodes and one with newer code; the others rarely."""
    for seed in seeds:
        if seed < TOURS and seed % CLUSTERS_EACH == 0:
            yield CLUSTERS + seed // CLUSTERS_EACH
            yield DEPLOYS + seed // CLUSTERS_EACH
            beside = GRANTED if seed % ROLLING_EACH else ROLLING
            yield beside + seed // ROLLING_EACH
        yield seed


def smaller(whole: Plan) -> list[Plan]:
    """Plans of the same seed with something left out, the largest part first; for shrinking a failure."""
    found = [
        replace(whole, faults={name: mean for name, mean in whole.faults.items() if name != kind})
        for kind in whole.faults
    ]
    found += [
        replace(whole, work={**whole.work, kind: 0.0})
        for kind, weight in whole.work.items()
        if weight and sum(map(bool, whole.work.values())) > 1
    ]
    found += [
        replace(whole, **{name: type(getattr(whole, name))()}) for name in _OTHERS if getattr(whole, name)
    ]
    if whole.devices > 2:
        found.insert(0, replace(whole, devices=max(2, whole.devices // 2)))
    if whole.seconds > 60:
        found.insert(0, replace(whole, seconds=whole.seconds / 2))
    return found


def words(one: Plan) -> str:
    """The plan in one line, for people."""
    faults = ",".join(f"{kind.replace(' ', '-')}:{mean:.1f}" for kind, mean in one.faults.items())
    return (
        f"{one.engine} {one.seconds:.0f}s {one.devices} devices of {one.users} users, faults {faults or '-'}"
    )
