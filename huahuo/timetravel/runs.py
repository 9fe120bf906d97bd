"""`huahuo replay fork`, `diff` and `serve`: what-if histories, differences, and a replayed stretch.

`fork` and `diff` return the exit code: 0 the same, 1 different. `serve` plays a recorded stretch over the
real wire protocol, with its original pauses, faster or slower: a separate server on a log in memory with
an id of its own, whose history begins before the stretch. It accepts no commands that change state; the
recorded directory is not touched.
"""

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from huahuo.actors import Runtime
from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.calls import Principal, UserId, user_id_of
from huahuo.actors.plugins.past import Past
from huahuo.build import BUILD
from huahuo.errors import ConfigError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.memory import MemoryLog, ModelDisk
from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.options import assigned
from huahuo.pages import site
from huahuo.replay.feed import Feed
from huahuo.replay.history import detached_history
from huahuo.replay.history.conditions import Change, differences, parse_path
from huahuo.replay.history.detached_history import Add, Apart, Edit, Put, Skip, apart, fork
from huahuo.replay.history.history import AtHead, History, ListHistory, pages_of, parse_event
from huahuo.replay.history.timeline import Timeline, position_of_moment
from huahuo.timetravel.history_files import append_of, rewrite, runs_of, subject
from huahuo.timetravel.look import Out, moment
from huahuo.transport.access.door import AddressDoor
from huahuo.transport.access.rights import is_user_stream
from huahuo.transport.access.tokens import Authenticator
from huahuo.transport.commands.gate import Gate
from huahuo.transport.commands.publishing import Publisher
from huahuo.transport.http.api import Api
from huahuo.transport.http.native import NativeHttp
from huahuo.transport.http.site import Phase, Site
from huahuo.transport.load.metrics import Metrics
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.server.hub import Hub
from huahuo.transport.server.server import Server

SAME, DIFFERENT = 0, 1
EVENTS_MAX = 2_000_000
"""Bound of the events that a comparison holds in memory."""


def edits(past: Past, skip: Sequence[str], put: Sequence[str], add: Sequence[str]) -> list[Edit]:
    """Parse `--skip EVENT`, `--set EVENT.FIELD=JSON` and `--append 'STREAM TYPE JSON'`.

    Raises:
        ConfigError: one of them is malformed.
    """
    try:
        return [*map(_skip, skip), *map(_put, put), *(_add(past, text) for text in add)]
    except ValueError as error:
        raise ConfigError(str(error)) from None


async def forked(
    history: History, at: str | None, wanted: list[Edit], to: Path | None, ambient: Ambient, out: Out
) -> int:
    """Make the fork, write it to `to` if given, and show its differences."""
    upto = await position_of_moment(history, LOG_STREAM, moment(at, AtHead()))
    original = await _events(history, upto)
    try:
        other = fork(original, wanted)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    log_id = f"fork-{ambient.token(8)}"
    if to is not None:
        lines = [
            detached_history.header(log_id, len(other)),
            *(detached_history.line(e, out.past.sealed_in(e)) for e in other),
        ]
        try:
            to.write_bytes(b"\n".join(lines) + b"\n")  # noqa: ASYNC240  nothing else runs on this loop
        except OSError as error:
            raise ConfigError(f"cannot write {to}: {error.strerror}") from None
    return await _compare(ListHistory(original, history.log_id), ListHistory(other, log_id), (), out)


async def differ(
    one: History,
    other: History,
    entities: tuple[str, ...],
    at: tuple[str | None, str | None],
    out: Out,
) -> int:
    """Show the first event that differs, how many do of each stream, and the differences of the states."""
    lists = []
    for history, text in ((one, at[0]), (other, at[1])):
        upto = await position_of_moment(history, LOG_STREAM, moment(text, AtHead()))
        lists.append(ListHistory(await _events(history, upto), history.log_id))
    return await _compare(lists[0], lists[1], entities, out)


async def _compare(one: ListHistory, other: ListHistory, entities: tuple[str, ...], out: Out) -> int:
    found = apart(one.events, other.events)
    names = entities or tuple(sorted(found))
    halves = not entities
    changed = {name: await _changes(out.past, one, other, name, halves=halves) for name in names}
    changed = {name: changes for name, changes in changed.items() if changes}
    if out.as_json:
        sides = [None if side is None else out.plain(side) for side in _first(found)] if found else None
        streams = {name: {"first": len(both.one), "second": len(both.other)} for name, both in found.items()}
        states = {name: [change.plain() for change in changes] for name, changes in changed.items()}
        out.json({"same": not found, "first_difference": sides, "events": streams, "states": states})
    else:
        _tell(found, changed, out)
    if entities:
        return DIFFERENT if changed else SAME
    return DIFFERENT if found else SAME


def _first(found: dict[str, Apart]) -> tuple[StoredEvent | None, StoredEvent | None]:
    """The stream that differs first: the next event of each run on it, None where it has none."""
    both = min(
        found.values(), key=lambda both: min(event.position for event in (*both.one[:1], *both.other[:1]))
    )
    return next(iter(both.one), None), next(iter(both.other), None)


def _tell(found: dict[str, Apart], changed: dict[str, list[Change]], out: Out) -> None:
    if not found:
        out.line("the same events")
        return
    out.line("first different event", "bold")
    for sign, style, side in zip("-+", ("red", "green"), _first(found), strict=True):
        if side is None:
            out.line(f"{sign} nothing: the stream has no such event here", style)
        else:
            out.line(sign, style)
            out.event(side)
    for name, both in found.items():
        out.line(f"{name}: {len(both.one)} events in the first only, {len(both.other)} in the second only")
    for name, changes in changed.items():
        out.line(name, "bold")
        out.changes(changes)


async def _changes(
    past: Past, one: ListHistory, other: ListHistory, name: str, *, halves: bool
) -> list[Change]:
    before = await _state(past, one, name, halves=halves)
    return differences(before, await _state(past, other, name, halves=halves))


async def _state(past: Past, history: ListHistory, name: str, *, halves: bool) -> dict[str, Any]:
    """The state at the head, {} if the history has no such entity.

    `halves`: of an entity with several streams only the part from this one.
    """
    if not history.head(name).seq:
        return {}
    found = past.own_subject(name) if halves else None
    found = found or await subject(past, history, name)
    return await Timeline(history, found).seek(history.position)


async def _events(history: History, upto: int) -> list[StoredEvent]:
    if upto > EVENTS_MAX:
        raise ConfigError(f"a comparison holds at most {EVENTS_MAX} events: give a moment with --at")
    pages = [page async for page in pages_of(history, LOG_STREAM, 0, upto)]
    return [event for page in pages for event in page]


def _skip(text: str) -> Skip:
    return Skip(parse_event(text))


def _put(text: str) -> Put:
    left, parsed = assigned(text)
    event, dot, path = left.partition(".")
    if not dot:
        raise ValueError(f"not EVENT.FIELD=VALUE: {text!r}")
    return Put(parse_event(event), parse_path(path.strip()), parsed)


def _add(past: Past, text: str) -> Add:
    stream, _, rest = text.strip().partition(" ")
    type_, _, fields = rest.strip().partition(" ")
    try:
        parsed = msgspec.json.decode(fields or "{}", type=dict[str, Any])
    except msgspec.MsgspecError:
        raise ValueError(f"not STREAM TYPE {{JSON}}: {text!r}") from None
    if not stream or not type_:
        raise ValueError(f"not STREAM TYPE {{JSON}}: {text!r}")
    named = past.entity_of(parsed) if stream.startswith("user/") else None
    return Add(stream, type_, parsed, named or stream)


STAGED_EVENTS_MAX = 1_000_000
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
            metrics=metrics,
            runtime=runtime,
            ambient=ambient,
            fingerprint_key=ambient.token_bytes(32),
        )
        server.plain = NativeHttp(server, Api(server, pages, log=log, acked=hub.acked, limit=pages.limit))
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
    if upto > STAGED_EVENTS_MAX:
        raise ConfigError(
            f"a replay holds at most {STAGED_EVENTS_MAX} events in memory: end earlier, or fork"
        )
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
        sys.stdout.flush()  # a pipe would keep the lines until the end
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
