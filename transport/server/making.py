"""What the connections of a server share, made from its settings and from the parts of the service."""

import asyncio
from collections.abc import Callable

from huahuo.actors import Runtime
from huahuo.actors.plugins.actions import MayRead, Registry
from huahuo.actors.plugins.words import Language
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.executor import Executor, InlineExecutor
from huahuo.eventstore.port import Log
from huahuo.replay.live.feed import Feed
from huahuo.transport.access.door import Door
from huahuo.transport.access.verified import Verifier
from huahuo.transport.protocol.compression import Compression
from huahuo.transport.protocol.frames import FrameCache
from huahuo.transport.protocol.limits import TransportSettings
from huahuo.transport.protocol.server_sent import ServerSent
from huahuo.transport.server.ack_reader import AckReader
from huahuo.transport.server.budget import Budget, BudgetLimits, Estimates
from huahuo.transport.server.fanout import FanOut
from huahuo.transport.server.intake import Intake
from huahuo.transport.server.notices import Notices
from huahuo.transport.server.outbox import Outbox
from huahuo.transport.server.pictures import Pictures
from huahuo.transport.server.ports import CommandGate, Hub, Meter
from huahuo.transport.server.sends import Sends
from huahuo.transport.server.shares import Shares
from huahuo.transport.server.supply import Supply
from huahuo.transport.server.turns import Turns
from huahuo.transport.server.verdicts import Verdicts
from huahuo.transport.server.wires import Wires
from huahuo.transport.session.shared import Shared
from huahuo.transport.words import en, http_en, http_zh, zh


def wires_of(
    *,
    settings: TransportSettings,
    log: Log,
    feed: Feed,
    registry: Registry,
    gate: CommandGate,
    hub: Hub,
    door: Door,
    verifier: Verifier,
    metrics: Meter,
    runtime: Runtime,
    ambient: Ambient,
    fingerprint_key: bytes,
    compression: Compression | None,
    executor: Executor | None,
    turns: Turns | None,
    may_read: MayRead | None,
    language: Language | None,
    knows: Callable[[str], bool],
    leaving: Callable[[], int],
) -> Wires:
    """See `Server` for the parameters."""
    budget = Budget(
        BudgetLimits(
            process=settings.unsent_bytes_max,
            user=settings.unsent_bytes_per_user,
            connection=settings.unsent_bytes_per_connection,
        )
    )
    turns = turns or Turns(Shares(), ambient.monotonic_s, process_s=ambient.process_s)
    pictures = Pictures(
        registry.snapshots,
        feed,
        settings=settings,
        budget=budget,
        turns=turns,
        compression=compression,
        executor=executor or InlineExecutor(),
        now_s=ambient.monotonic_s,
    )
    frames = FrameCache(bytes_max=settings.frame_cache_bytes_max, frame_bytes_max=settings.frame_bytes_max)
    sends = Sends(settings.sends)
    fanout = FanOut(
        frames,
        events_max=settings.frame_events_max,
        monotonic_s=ambient.monotonic_s,
        sends=sends,
        later=lambda go_on: asyncio.get_running_loop().call_soon(go_on),
    )
    registry.words.add(zh, en)
    registry.words.add(http_zh, http_en)
    verdicts, outbox = Verdicts(registry.judges, may_read), Outbox()
    gate.told = outbox.flush
    turns.rounds.room.append(gate.has_room)
    return Wires(
        shared=Shared(
            shared_log=feed.catch_up is not None,
            settings=settings,
            log=log,
            frames=frames,
            commands=registry.commands,
            fingerprint_key=fingerprint_key,
            compression=compression,
            event_texts=ServerSent(log.log_id),
            judged=verdicts.judged,
            words=registry.words,
            language=language,
            knows=knows,
            leaving=leaving,
        ),
        runtime=runtime,
        ambient=ambient,
        feed=feed,
        fanout=fanout,
        hub=hub,
        door=door,
        gate=gate,
        notices=Notices(),
        verifier=verifier,
        meter=metrics,
        supply=Supply(
            pictures=pictures,
            budget=budget,
            intake=Intake(settings.intake_bytes_max),
            estimates=Estimates(),
            turns=turns,
        ),
        verdicts=verdicts,
        outbox=outbox,
        sends=sends,
        ack_reader=AckReader(ambient.monotonic_s),
    )
