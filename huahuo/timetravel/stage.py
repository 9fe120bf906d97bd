"""`huahuo replay serve`: plays a recorded stretch over the real wire protocol, with its original pauses.

It is a separate server on a log in memory with an id of its own. Browsers and clients see a service whose
history begins before the stretch and continues as recorded, faster or slower. It accepts no commands that
change state, and the recorded directory is not touched.
"""

import asyncio
import signal
from contextlib import AsyncExitStack
from functools import partial

from huahuo.actors import Runtime
from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.past import Past
from huahuo.actors.plugins.principal import Principal, UserId, user_id_of
from huahuo.build import BUILD
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.memory.log import MemoryLog
from huahuo.eventstore.memory.model_disk import ModelDisk
from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.pages import site
from huahuo.replay.history.history import History, pages_of
from huahuo.replay.live.feed import Feed
from huahuo.timetravel.show import Out
from huahuo.timetravel.transfer import append_of, rewrite, runs_of
from huahuo.transport.access.door import AddressDoor
from huahuo.transport.access.rights import is_user_stream
from huahuo.transport.access.tokens import Authenticator
from huahuo.transport.commands.gate import Gate
from huahuo.transport.commands.publishing import Publisher
from huahuo.transport.protocol.limits import TransportSettings
from huahuo.transport.server.hub import Hub
from huahuo.transport.server.metrics import Metrics
from huahuo.transport.server.server import Server
from huahuo.transport.server.site import Phase, Site

EVENTS_MAX = 1_000_000
_PAUSE_MAX_S = 30.0
"""Longer pauses, such as a quiet night, are shortened to this."""
_POLL_S = 0.05
_TOKEN_TTL_S = 12 * 3600
_READ_ONLY = ("publish", "revoke")


class Stage:
    """A server on events in memory: `await open()`, use `url`, `await close()`."""

    url: str
    token: str

    def __init__(self, ambient: Ambient) -> None:
        self._ambient = ambient
        self._stack = AsyncExitStack()

    async def open(self, past_of: Past, past: list[StoredEvent], port: int, user_id: UserId) -> None:
        """Listen, with `past` as the history so far, and make a token for that user as an admin.

        `past_of`: what is known of the kinds of entities in it.

        Raises:
            ConfigError: the port is taken.
        """
        ambient, stack = self._ambient, self._stack
        self.log = log = await MemoryLog.open(
            ModelDisk(), ambient=ambient, master_key=ambient.token_bytes(32), build=BUILD
        )
        stack.push_async_callback(log.close)
        await rewrite(past, log)
        feed, registry, metrics = Feed(log), Registry(), Metrics()
        runtime = Runtime(asyncio.get_running_loop(), ambient=ambient)
        stack.push_async_callback(runtime.stop)
        Publisher(log, ambient, registry).register()
        for action in _READ_ONLY:
            del registry.commands[action]
        for kind, of in past_of.snapshots.items():
            registry.snapshot(kind, partial(of, log))
        for query in past_of.actions(log):
            registry.command(query)
        authenticator = Authenticator(ambient.token_bytes(32))
        self.hub = hub = Hub(log, ambient, revocations=authenticator.revocations)
        pages = Site(log, ambient, metrics, site.assets())
        server = Server(
            settings=TransportSettings(),
            log=log,
            feed=feed,
            registry=registry,
            gate=Gate(log, ambient),
            hub=hub,
            door=AddressDoor(0, ()),
            verifier=authenticator,
            site=pages,
            metrics=metrics,
            runtime=runtime,
            ambient=ambient,
            fingerprint_key=ambient.token_bytes(32),
        )
        await hub.start()
        stack.push_async_callback(hub.stop)
        try:
            port = await server.start("127.0.0.1", port)
        except OSError as error:
            raise ConfigError(f"cannot listen on port {port}: {error.strerror or error}") from None
        stack.push_async_callback(server.drain)
        pages.phase = Phase.READY
        self.url = f"http://127.0.0.1:{port}"
        who = Principal(user_id, "replay", is_admin=True)
        self.token = authenticator.mint(who, now_ms=ambient.now_ms(), ttl_s=_TOKEN_TTL_S, jti=ambient.token())

    async def play(self, past: int, stretch: list[StoredEvent], speed: float) -> None:
        """Append the events of the stretch, each at its time. `past` events came before it."""
        new_positions = {event.position: n for n, event in enumerate(stretch, start=past + 1)}
        loop = asyncio.get_running_loop()
        due, before_ms = loop.time(), stretch[0].ts_ms if stretch else 0
        for run in runs_of(stretch):
            due += min(max(0, run[0].ts_ms - before_ms) / 1000 / speed, _PAUSE_MAX_S)
            before_ms = run[0].ts_ms
            await asyncio.sleep(max(0.0, due - loop.time()))
            await self.log.append(append_of(run, new_positions))

    async def close(self) -> None:
        """Disconnect all clients and stop."""
        await self._stack.aclose()


async def serve(
    history: History, after: int, upto: int, speed: float, port: int, user_id: UserId | None,
    ambient: Ambient, out: Out, *, wait: bool, stay: bool,
) -> int:  # fmt: skip
    """Serve until the stretch is over (`stay`: until a signal). With `wait`, the first client starts it.

    Raises:
        ConfigError: the stretch is too long for memory, or the port is taken.
    """
    if upto > EVENTS_MAX:
        raise ConfigError(f"a replay holds at most {EVENTS_MAX} events in memory: end earlier, or fork")
    events = [event async for page in pages_of(history, LOG_STREAM, 0, upto) for event in page]
    past = [event for event in events if event.position <= after]
    stretch = events[len(past) :]
    stage = Stage(ambient)
    await stage.open(out.past, past, port, _busiest(stretch or events) if user_id is None else user_id)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    try:
        if out.as_json:
            out.json(
                {"url": stage.url, "token": stage.token, "log": stage.log.log_id, "events": len(stretch)}
            )
        else:
            out.line(f"listening on {stage.url}")
            out.line(f"{len(stretch)} events at {speed:g}x: {stage.url}/#token={stage.token}")
        playing = asyncio.create_task(_play(stage, len(past), stretch, speed, wait=wait))
        signalled = asyncio.create_task(stopping.wait())
        await asyncio.wait({playing, signalled}, return_when=asyncio.FIRST_COMPLETED)
        if playing.done() and playing.exception() is None and stay:
            await stopping.wait()
        for task in (playing, signalled):
            task.cancel()
        await asyncio.wait({playing, signalled})
        if not playing.cancelled():
            playing.result()
    finally:
        await stage.close()
    return 0 if stretch else 1


async def _play(stage: Stage, past: int, stretch: list[StoredEvent], speed: float, *, wait: bool) -> None:
    while wait and not stage.hub.joined_count:  # noqa: ASYNC110  the hub has no callback for a sign-in
        await asyncio.sleep(_POLL_S)
    await stage.play(past, stretch, speed)


def _busiest(events: list[StoredEvent]) -> UserId:
    """The user with the most events, 0 if there is none."""
    counts: dict[str, int] = {}
    for event in events:
        if is_user_stream(event.stream):
            counts[event.stream] = counts.get(event.stream, 0) + 1
    busiest = max(counts, key=lambda stream: counts[stream], default="")
    return user_id_of(busiest.partition("/")[2]) or 0
