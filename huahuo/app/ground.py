"""What plug-ins and clients stand on: the log, its entities, and the time and threads that users share."""

import asyncio
from dataclasses import dataclass

from huahuo.actors import Runtime
from huahuo.actors.entities.directory import Directory
from huahuo.actors.plugins.plugin import Host
from huahuo.app import bounds, nodes
from huahuo.app.config import Settings
from huahuo.app.fairness import Fairness
from huahuo.app.keys import Keys
from huahuo.app.stopping import Parts
from huahuo.app.storing import Storing
from huahuo.app.waiting_room import WaitingRoom
from huahuo.app.world import World
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.awake import AwakeAmbient
from huahuo.eventstore.core.fair_executor import FairExecutor
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.replay.live.feed import Feed
from huahuo.transport.accounts.application import AskRights
from huahuo.transport.server.metrics import Metrics
from huahuo.transport.server.shares import Shares
from huahuo.transport.server.turns import Turns


@dataclass(frozen=True, kw_only=True)
class Ground:
    """See the module. `host`: what a plug-in gets of it."""

    log: Log
    feed: Feed
    directory: Directory
    runtime: Runtime
    executor: FairExecutor
    turns: Turns
    fairness: Fairness
    metrics: Metrics
    host: Host


async def lay(
    settings: Settings,
    secrets: Keys,
    ambient: Ambient,
    awake: AwakeAmbient,
    world: World,
    storing: Storing,
    rights: AskRights | None,
    room: WaitingRoom,
    parts: Parts,
) -> Ground:
    """Open the log, and make what stands on it directly. `parts` stops it. Raises HuahuoError.

    `rights`: the application's answers on who may do what, None if it is not asked. `room`: has the port
    while a node can't serve yet.
    """
    log = await world.open(settings, secrets, ambient, room, parts)
    executor = world.executor(settings, parts)
    feed = Feed(log, tail_events_max=settings.tail_events_max, tail_bytes_max=bounds.tail_bytes_max(settings))
    feed.catch_up = nodes.catch_up_of(log)
    runtime = Runtime(asyncio.get_running_loop(), ambient=awake)
    parts.add_timed("actors", runtime.stop)
    turns = Turns(Shares(), awake.monotonic_s, process_s=awake.process_s)
    fairness = Fairness(turns)
    executor.bill(fairness.charge, awake.thread_s)
    directory = Directory(runtime, log, feed, awake, limits=bounds.of_entities(settings), fairness=fairness)
    parts.add_timed("entities", directory.close)
    metrics = Metrics()
    host = Host(
        log=log,
        directory=directory,
        feed=feed,
        ambient=awake,
        executor=executor,
        fairness=fairness,
        wait_s=fairness.wait_s,
        metrics=metrics,
        files=settings.data if isinstance(log, SqliteLog) else None,
        may_read=None if rights is None else rights.may_read,
        has_room=storing.room.has_room,
        resolver=world.resolver(),
        shared=nodes.replica_of(log) is not None,
        classic_ui=bool(settings.classic_ui),
    )
    return Ground(
        log=log, feed=feed, directory=directory, runtime=runtime, executor=executor, turns=turns,
        fairness=fairness, metrics=metrics, host=host,
    )  # fmt: skip
