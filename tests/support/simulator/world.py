"""A whole simulated run: play the plan, end all faults, wait until everything rests, and record the end."""

import asyncio
import contextlib
import gc
import logging
import math
import tempfile
import threading
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import structlog
from pykka import ActorRegistry

from huahuo.actors.actor.refs import unregister
from huahuo.actors.domain.jobs import OPEN
from huahuo.actors.domain.jobs import TABLE as JOBS
from huahuo.actors.domain.projection_rows import TABLE_PREFIX
from huahuo.actors.effects.facts import CANCEL_ASKED
from huahuo.actors.entities.decider import EntityError
from huahuo.cli.doctor_log import check_rules, invariant_rules
from huahuo.embedding import calls
from huahuo.errors import HuahuoError
from huahuo.eventstore.core.chain import GENESIS
from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.eventstore.verdict import Verdict
from huahuo.mailcheck import mail
from tests.support.checkers.history import Fact, Followed, History, Hook
from tests.support.models.model_imap import ModelImap
from tests.support.quick_folder import quick_folder
from tests.support.simulator.bare_reader import BareReader
from tests.support.simulator.cluster import Cluster, ClusterFaults
from tests.support.simulator.device import Device, Habits, digest_of, nonce_of
from tests.support.simulator.direct import direct_writes
from tests.support.simulator.faults import Faults
from tests.support.simulator.grants import Grants
from tests.support.simulator.leaver import Leaver
from tests.support.simulator.loop import Loop, OutOfTime
from tests.support.simulator.marks import Marks
from tests.support.simulator.node import EPOCH_MS, SECRET, Node, body_of, quick_starts
from tests.support.simulator.plan import HEARTBEAT_S, Plan
from tests.support.simulator.receiver import MACHINE, Receiver
from tests.support.simulator.repeatable import one_collection, ordered_scopes, virtual_idle_times
from tests.support.simulator.rot import read_beside_rot
from tests.support.simulator.shop import Outside, folded
from tests.support.simulator.work import HOOK_TYPES, Work, hook, jobs, mail_text

CONVERGE_S = 30.0
LOOK_S = 20.0
STATES_AT_A_LOOK = 8
"""Of each node, while there may be code of two versions."""
ENDS_MAX = 20
"""How often tasks are cancelled at the end. In a run that was cut short, some wait for what never comes."""
REST_S = 900.0
"""When all work must have ended: effects wait for their back-off, checks for their deadlines."""
NEWER_REST_S = 60.0
"""Until then, timers whose command only the newer code knows must have fired."""
GROUPS = ("red", "blue")
KEYFRAME_EVERY = 4
"""Where code of two versions might take each other's stored states."""
SECRET_CANARY = "imap-secret-canary"

type Client = Device | BareReader


class Told:
    """What a run leaves: its history, marks, the verdicts over the log alone, and the hash of its trace."""

    def __init__(self) -> None:
        self.history = History()
        self.marks = Marks()
        self.log_verdicts: list[Verdict] = []
        self.trace = ""
        self.steps = 0
        self.struck: Counter[str] = Counter()
        self.rested_s = 0.0
        """How long it took after the last fault until all work had ended."""
        self.fault = ""
        """What stopped the run itself."""
        self.states: list[tuple[str, int, bool, str]] = []
        """(stream and where, its seq, whether newer code said so, its state)."""
        self.unhandled: list[str] = []
        """What tasks raised that nobody waited for."""


def play(plan: Plan, until_s: float = math.inf) -> Told:
    """Run a plan. Nothing of it depends on anything but the plan.

    Raises:
        OutOfTime: it was not over at `until_s` of `time.monotonic`.
    """
    with _hushed(), quick_starts(), one_collection(), ordered_scopes(), virtual_idle_times():
        with _crashed_actors_forgotten():
            told = _play(plan, until_s)
        gc.collect()  # of what crashes left, while nobody is warned of it; a task that failed is told now
    if told is None:
        raise OutOfTime
    if told.unhandled and not told.fault:
        told.fault = f"unhandled: {told.unhandled[0]}"
    return told


@contextlib.contextmanager
def _crashed_actors_forgotten() -> Iterator[None]:
    """A crash unregisters nobody from the registry of the process: whole worlds would stay in it."""
    before = set(ActorRegistry.get_all())
    try:
        yield
    finally:
        for ref in ActorRegistry.get_all():
            if ref not in before:
                unregister(ref)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Without the service's own log: a run that fails is repeated, and its lines cost more than the run."""
    kept, level = structlog.get_config(), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=False
    )
    try:
        with warnings.catch_warnings():
            # A crash closes nothing, and what it cancels may not have begun.
            warnings.simplefilter("ignore", ResourceWarning)
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            yield
    finally:
        structlog.configure(**kept)
        logging.disable(level)


def _play(plan: Plan, until_s: float) -> Told | None:
    told = Told()
    loop = Loop(plan.seed, until_s)
    told.unhandled = loop.unhandled
    threads = threading.active_count()
    with tempfile.TemporaryDirectory(prefix="sim-", dir=quick_folder()) as folder:
        try:
            with direct_writes(plan.seed, told.marks):
                loop.run_until_complete(_world(loop, plan, Path(folder), told))
        except OutOfTime:
            return None
        except Exception as error:  # noqa: BLE001  it is reported as the failure of this seed
            told.fault = f"{type(error).__name__}: {error}"
        finally:
            told.trace, told.steps = loop.trace_hash(), loop.steps
            _end(loop)
    if threading.active_count() > threads and not told.fault:
        told.fault = "a thread was started: the run cannot be repeated"
    return told


async def _world(loop: Loop, plan: Plan, folder: Path, told: Told) -> None:
    loop.net.set_flow_control(enabled=True)
    loop.net.set_defaults(latency=(0.001, 0.02))
    history, chance, outside = told.history, Random(f"world {plan.seed}"), Outside()
    imap = ModelImap("alice", "imap-secret-canary", [mail_text(0)])
    loop.net.host("imap").create_task(imap.serve(143))
    given = history, told.marks, outside
    cluster = Cluster(loop, folder, plan.nodes, *given) if plan.nodes > 1 else None
    node = cluster or Node(loop, folder, plan.engine, *given)
    node.settings_more["heartbeat_s"] = plan.heartbeat_s
    node.keyframe_every = KEYFRAME_EVERY if plan.faults.keys() & {"deploy", "roll"} else None
    grants = Grants(node, history, plan.grants) if plan.grants else None
    work = Work(plan.work, plan.pace_s, imap)
    devices = [_device(node, history, number, plan, chance) for number in range(plan.devices)]
    readers = [_reader(node, history, number, plan) for number in range(plan.readers)]
    clients: list[Client] = [*devices, *readers]
    leaver = Leaver(node, history, plan.seconds) if plan.erases else None
    receiver = Receiver(loop, told.marks)
    loop.net.host(MACHINE).create_task(receiver.serve())
    struck = devices, clients, imap, plan.down_s
    faults = Faults(node, *struck) if cluster is None else ClusterFaults(cluster, *struck)
    if grants is not None:
        grants.begin()
        faults.tokens = grants.side
    await node.start()
    own = [asyncio.ensure_future(faults.revive())]
    for device in devices:
        device.acting = work.act
    for client in clients:
        client.switch_on()
    await asyncio.sleep(5)
    own += [asyncio.ensure_future(faults.strike(kind, mean_s)) for kind, mean_s in plan.faults.items()]
    own.append(asyncio.ensure_future(jobs(node, plan.work.get("job", 0), plan.pace_s, lambda: work.over)))
    own.append(asyncio.ensure_future(_look(node, told)))
    own += [asyncio.ensure_future(hook(devices[0], receiver))] if plan.hooks else []
    own += [] if leaver is None else [asyncio.ensure_future(leaver.live())]
    own += [] if grants is None else [asyncio.ensure_future(grants.live(devices[0]))]
    if grants is not None and cluster is not None:
        others = [one for one in devices[1:] if one.user == devices[0].user]
        own += [asyncio.ensure_future(grants.look(one)) for one in others]
    await asyncio.sleep(plan.seconds)
    work.over = receiver.is_kind = True
    faults.heal()
    # Nobody can notice before a heartbeat is due that a machine went without a word.
    await asyncio.sleep(plan.heartbeat_s - HEARTBEAT_S)
    await faults.end_update()
    told.struck.update(faults.struck)
    history.healed_s = loop.time()
    try:
        if grants is not None:
            grants.over = True
        await _converge(node, clients, history)
        if grants is not None:
            await grants.settle(devices[0])
        if leaver is not None:
            await leaver.settle()
        settled = 0 if node.app is None else node.app.log.head(LOG_STREAM).seq
        if not history.counts["behind"]:  # else it never rests
            await _rest(node, clients, devices[0], work)
        # At once, because timers go on until the end and nobody waits for what they say then.
        if node.app is not None:
            names = {stream for client in clients for stream in client.kept.followers}
            history.heads = {name: node.app.log.head(name).seq for name in sorted(names)}
        told.rested_s = loop.time() - history.healed_s
        await _states(node, told)
        await _open_work(node, history)
    finally:
        for task in own:
            task.cancel()
    await _failures(own)
    await node.drain()
    await _record(node, devices, outside, imap, told, leaver)
    _hooks(history, receiver, settled)
    books, ledger = outside.books, outside.ledger
    history.followed = [
        Followed("books", books.kinds, books.followed, due=settled),
        Followed(
            "ledger",
            ledger.kinds,
            ledger.followed,
            due=settled if node.runs_newer and len(node.services) > 1 else 0,
            repeats=True,
        ),
    ]
    if grants is not None:
        history.mails |= grants.mails(devices[0])


def _reader(node: Node, history: History, number: int, plan: Plan) -> BareReader:
    user = 1 + number % plan.users
    stream = "system" if number % 2 else f"user/{user}"
    return BareReader(node, history, number, user, stream, over_pages=number % 4 >= 2)


def _device(node: Node, history: History, number: int, plan: Plan, chance: Random) -> Device:
    user = 1 + number % plan.users
    habits = Habits(
        admin=number % 4 == 1,
        groups=tuple(name for name in GROUPS if chance.random() < 0.6),
        window=chance.choice((8, 64, 512)),
        slow_s=chance.choice((0.0, 0.0, 0.0, 3.0)),
        packed=number % 3 != 0,
        no_websocket=plan.over_http and number == 5,
        ttl_s=plan.ttl_s,
    )
    return Device(node, history, number, user, habits)


async def _look(node: Node, told: Told) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        if node.up.is_set():
            await node.look()
        if node.was_updated:
            # What is asked may crash.
            with contextlib.suppress(HuahuoError, EventStoreError, TimeoutError, EntityError):
                async with asyncio.timeout(LOOK_S):
                    await _states(node, told, STATES_AT_A_LOOK)


async def _failures(tasks: Sequence[asyncio.Future[None]]) -> None:
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


async def _converge(node: Node, clients: Sequence[Client], history: History) -> None:
    """I7: wait until every device has the head of all that it follows, at most as long as is allowed."""
    loop = node.loop
    while loop.time() - history.healed_s <= CONVERGE_S + 1:
        await asyncio.sleep(0.5)
        if node.app is not None and all(_at_head(node, client) for client in clients):
            break
    history.ended_s = loop.time()
    behind = [client.name for client in clients if not _at_head(node, client)]
    if behind:
        history.ended_s = history.healed_s + CONVERGE_S + 1
        history.counts["behind"] = len(behind)


def _at_head(node: Node, client: Client) -> bool:
    app = node.app
    return (
        app is not None
        and client.online
        and all(
            not follower.may or _last(follower.applied) >= app.log.head(stream).seq
            for stream, follower in client.kept.followers.items()
        )
    )


def _last(applied: Sequence[Any]) -> int:
    return applied[-1].seq if applied else 0


async def _rest(node: Node, clients: Sequence[Client], first: Device, work: Work) -> None:
    """Wait until all effects and jobs have ended, all mails are told, and everybody has seen it."""
    until_s = node.loop.time() + REST_S
    least_s = node.loop.time() + (NEWER_REST_S if node.was_updated else 0.0)
    checked_s = node.loop.time()
    while node.loop.time() < until_s:
        await asyncio.sleep(5)
        app = node.app
        if app is None:
            continue
        if first.kept.mailboxes and node.loop.time() > checked_s:
            checked_s = node.loop.time() + 60
            await work.check(first)
        rows = await app.log.rows("effect", "", limit=1)
        mails = not first.kept.mailboxes or len(set(first.kept.told)) >= work.mails
        answered = not any(client.kept.outbox for client in clients)
        letters = await app.log.rows("webhook", "", limit=1)
        left = await app.log.rows(TABLE_PREFIX + JOBS, OPEN, limit=1)
        if (
            not rows
            and node.loop.time() >= least_s
            and not letters
            and not left
            and mails
            and answered
            and not node.jobs_running
            and all(_at_head(node, client) for client in clients)
        ):
            return


async def _states(node: Node, told: Told, most: int = 1 << 30) -> None:
    """I13: what each service says its newest entities are, to be compared with their events."""
    for one in node.services:
        app, newer = one.app, one.runs_newer
        if app is None:
            continue
        for stream in app.log.streams("parcel/")[-most:]:
            state, seq = await calls.state(app, "parcel", int(stream.partition("/")[2]))
            name = f"{stream} {seq} on {one.name}"
            told.states.append((name, seq, newer, msgspec.json.encode(state).decode()))


async def _open_work(node: Node, history: History) -> None:
    for row in [] if node.app is None else await node.app.log.rows("effect", "", limit=20):
        history.open_work.append(f"effect {row[1][:120]!r}")


async def _record(
    node: Node,
    devices: Sequence[Device],
    outside: Outside,
    imap: ModelImap,
    told: Told,
    leaver: Leaver | None,
) -> None:
    """Read the final log as another process would, and all that is to be compared with it."""
    history, marks = told.history, told.marks
    log = await node.final_log()
    try:
        history.log_id = log.log_id
        told.log_verdicts = [*await check_rules(log, invariant_rules([mail()])), *node.verdicts]
        events: list[StoredEvent] = []
        last = 0
        while page := await log.read(LOG_STREAM, last, events_max=5000, bytes_max=64 << 20):
            events += page
            last = page[-1].position
        stones = await log.tombstones(0, last, 1_000_000) if leaver is not None else []
        acks = {(ack.user, ack.client, ack.stream): ack.seq for ack in await log.acks()}
        history.acks.append(acks)
        if leaver is not None:
            await leaver.judge(log, node.raw())
    finally:
        await log.close()
    bodies: defaultdict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    ends: Counter[str] = Counter()
    versions: Counter[str] = Counter()
    cancelled: set[str] = set()
    for event in events:
        body = body_of(event.body)
        digest, at_s = digest_of(body), (event.ts_ms - EPOCH_MS) / 1000
        if node.was_updated and event.type == "parcel_added":
            digest = ""  # clients get it as their service's code has it
        history.log.append(
            Fact(
                event.position, event.stream, event.seq, event.type, nonce_of(body, digest),
                event.command_id, event.chain, digest, at_s,
            )
        )  # fmt: skip
        if event.type == CANCEL_ASKED:
            cancelled.add(event.entity)
        kind = event.stream.partition("/")[0]
        behind_newer = kind == "parcel" and event.version < versions[event.stream]
        marks.sometimes("older code wrote behind newer code", behind_newer)
        versions[event.stream] = max(versions[event.stream], event.version)
        if event.type == "webhook_added":
            made = body["webhook_id"], body["user_id"], body["since"]
            name = f"webhook {made[0]} of user {made[1]}"
            history.hooks.append(Hook(name, number=made[0], since=made[2], added=event.position))
            history.hooks[-1].streams = (f"user/{made[1]}", "system")
        if kind == "parcel":
            bodies[event.stream].append((event.type, body))
        elif kind == "job":
            ends[event.stream] += event.type == "job_ended"
        history.counts["effect"] += event.type == "effect_ended"
        history.counts["timer"] += event.type == "timer_fired"
    pruned = (Fact(one.position, one.stream, one.seq, "pruned", "", chain=one.chain) for one in stones)
    history.log = sorted([*history.log, *pruned], key=lambda fact: fact.position)
    history.looks = [(position, chain) for position, chain in history.looks if chain != GENESIS]
    for name, seq, newer, live in told.states:
        written = bodies[name.partition(" ")[0]][:seq]
        history.folded.append((name, live, msgspec.json.encode(folded(written, newer=newer)).decode()))
    for name, facts in bodies.items():
        counted = Counter(kind for kind, _ in facts)
        sealed, wrapped, unwrapped = (
            counted[f"parcel_{what}"] for what in ("sealed", "wrapped", "unwrapped")
        )
        rightly = max(wrapped, unwrapped) <= sealed if name in cancelled else wrapped == unwrapped == sealed
        if not rightly:
            history.open_work.append(
                f"{name} was sealed {sealed}, wrapped {wrapped}, unwrapped {unwrapped} times"
            )
    history.open_work += [f"{name} has {count} ends" for name, count in ends.items() if count != 1]
    first = devices[0]
    if first.kept.mailboxes:
        there = [f"mail {number}" for number in range(len(imap.mails))]
        history.mails["mailbox of user 1"] = there, first.kept.told
    history.secrets += [SECRET_CANARY, SECRET]
    history.places["disk"] = node.raw()
    history.reads = await read_beside_rot(node, events, Random(f"rot {node.loop.seed}"))
    if told.struck["clock"] or told.struck["node clock"] or told.struck["stop server"]:
        for door in history.doors:
            door.until_s = (
                math.inf
            )  # the service's clock was not that of the run: nobody can say what is late
    history.canaries = {f"canary-of-{user}-": user for user in range(1, 1 + len(devices))}
    history.canaries[SECRET_CANARY] = 0
    marks.sometimes("timer fired in a later life", outside.rang_later)
    marks.sometimes(
        "effect taken up by the next life", any(len(lives) > 1 for lives in outside.began.values())
    )


def _hooks(history: History, receiver: Receiver, settled: int) -> None:
    """What each webhook was for, and what its receiver took. What came behind `settled` may be on its way."""
    for one in history.hooks:
        places = [
            (fact.position, (fact.stream, fact.seq))
            for fact in history.log
            if fact.stream in one.streams and fact.type in HOOK_TYPES and fact.position > one.since
        ]
        one.may = {place for _, place in places}
        one.due = {place for position, place in places if one.added < position <= settled}
        one.accepted = {(stream, seq) for number, _, stream, seq in receiver.accepted if number == one.number}
        one.false = list(receiver.false)


def _end(loop: Loop) -> None:
    """Let the tasks of all machines end while there is a world to end in."""
    loop.all_go_on()  # what a stopped machine holds back would be waited for

    async def ended() -> None:
        for _ in range(ENDS_MAX):
            rest = asyncio.all_tasks(loop) - {asyncio.current_task()}
            if not rest:
                return
            for task in rest:
                task.cancel()
            done, _ = await asyncio.wait(rest, timeout=1.0)
            await asyncio.gather(*done, return_exceptions=True)

    try:
        loop.run_until_complete(ended())
    except (Exception, HuahuoError):  # noqa: BLE001  the run's own failure is told
        pass
    finally:
        loop.close()
