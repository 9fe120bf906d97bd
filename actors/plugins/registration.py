"""The snapshot of one stream from several plug-ins: their states merged by key, all after the same event.

Plug-ins into the service: each brings what it has, and all of it is registered.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from huahuo.actors.entities.decider import Busy
from huahuo.actors.entities.entity import Query
from huahuo.actors.plugins.actions import RESERVED, MayRead, Registry, SnapshotOf
from huahuo.actors.plugins.calls import Parted, Principal
from huahuo.actors.plugins.plugin import Brought, Host, Plugin, Readers

ATTEMPTS_MAX: Final = 8
"""How often all sources are asked until they answer for the same event. New events may come in between."""
_SHIFT: Final = 40
"""The number of a source stands above this many bits of a part's `start`."""


def merged(sources: Sequence[SnapshotOf], head: SnapshotOf) -> SnapshotOf:
    """One snapshot from several sources: theirs if there is one, `head`'s if there is none.

    Of a key that two sources have, clients may take either, so sources should choose keys of their own.
    """
    if len(sources) <= 1:
        return sources[0] if sources else head

    async def snapshot(stream: str) -> tuple[int, bytes | Parted]:
        """Raises Busy: the stream changed too often between the answers."""
        for _ in range(ATTEMPTS_MAX):
            found = await asyncio.gather(*(source(stream) for source in sources))
            seqs = {seq for seq, _ in found}
            if len(seqs) == 1:
                return seqs.pop(), Merged([state for _, state in found])
        raise Busy(f"{stream} changed too often while its snapshot was made")

    return snapshot


class Merged:
    """The members of several JSON objects as one object."""

    __slots__ = ("_states",)

    def __init__(self, states: Sequence[bytes | Parted]) -> None:
        self._states = states

    def pieces(self) -> Iterator[bytes]:
        """See `Parted`."""
        yield b"{"
        before = False
        for state in self._states:
            for piece in _members((state,) if isinstance(state, bytes) else state.pieces()):
                if before and piece.first:
                    yield b","
                yield piece.text
                before = True
        yield b"}"

    def part(self, start: int, bytes_max: int) -> tuple[bytes, int | None]:
        """See `Parted`: the parts of one state after the other."""
        number, inside = start >> _SHIFT, start & ((1 << _SHIFT) - 1)
        state = self._states[number]
        text, following = (state, None) if isinstance(state, bytes) else state.part(inside, bytes_max)
        if following is not None:
            return text, (number << _SHIFT) | following
        return text, (number + 1) << _SHIFT if number + 1 < len(self._states) else None


class _Piece:
    """Text between an object's braces. `first`: it is the first of its object."""

    __slots__ = ("first", "text")

    def __init__(self, text: bytes, *, first: bool) -> None:
        self.text = text
        self.first = first


def _members(pieces: Iterator[bytes] | tuple[bytes]) -> Iterator[_Piece]:
    """An object's text without its braces, so nothing for an empty object."""
    held, first, opened = b"", True, False
    for piece in pieces:
        text = held + piece
        if not opened:
            opened, text = True, text[1:]
        held = text[-1:]
        if text[:-1]:
            yield _Piece(text[:-1], first=first)
            first = False


USER = "user"


def bring_all(
    plugins: Sequence[Plugin], host: Host, settings: Mapping[str, Any], registry: Registry
) -> dict[str, Brought]:
    """What each plug-in brings, by its name, after it is registered.

    `settings` are instances of `Plugin.settings` by the plug-in's name; one that is missing has its defaults.

    Raises:
        ValueError: two plug-ins bring the same name, a setting cannot be used, or a package is missing. The
            text says which.
    """
    found: dict[str, Brought] = {}
    for plugin in plugins:
        if plugin.name in found:
            raise ValueError(f"the plug-in {plugin.name!r} is there twice")
        own = settings.get(plugin.name)
        if own is None and plugin.settings is not None:
            own = plugin.settings()
        try:
            found[plugin.name] = brought = plugin.bring(replace(host, settings=own))
        except ModuleNotFoundError as error:
            if not plugin.extra:
                raise
            needs = f"the plug-in {plugin.name} needs a package that is not installed ({error.name})"
            raise ValueError(f"{needs}: pip install '{plugin.extra}'") from None
        _register(brought, host, registry)
        registry.events(*plugin.event_types)
    parts = [one.user_snapshot for one in found.values() if one.user_snapshot is not None]
    registry.snapshot(USER, merged(parts, _empty(host)))
    return found


def _register(brought: Brought, host: Host, registry: Registry) -> None:
    for kind in brought.kinds:
        host.directory.register(
            kind.name,
            kind.decider,
            kind.effects,
            stream_prefix=kind.stream_prefix,
            weigh=kind.weigh,
            keyframe_every=kind.keyframe_every,
        )
        if kind.today is not None:
            host.feed.show_as_today(kind.streams, kind.today)
        if kind.readers is not None and kind.streams != USER:
            asked = host.may_read if kind.unjudged else None
            registry.judges[kind.streams] = asked or _judge(kind.name, kind.readers, host)
    for action in brought.actions:
        registry.command(action)
    for route in brought.routes:
        if route.first in RESERVED:
            raise ValueError(f"the route {route.method} {route.path}: /{route.first} belongs to the service")
        registry.route(route)
    registry.views.update(brought.views)
    for name, of in brought.snapshots.items():
        registry.snapshot(name, of)
    if brought.words is not None:
        registry.words.add(*brought.words)
    registry.tongues += brought.tongues
    registry.guarded |= brought.guarded
    registry.right_types |= brought.right_types
    for one in brought.lists:
        if one.name in registry.lists:
            raise ValueError(f"the list {one.name!r} belongs to a plug-in already: choose another name")
        registry.lists[one.name] = one


def _judge(kind: str, readers: Readers, host: Host) -> MayRead:
    async def may_read(stream: str, principal: Principal) -> bool:
        asked: Query[Any, bool] = Query(lambda _seq, state: readers(state, principal))
        return bool(await host.directory.ask(kind, stream.partition("/")[2], asked))

    return may_read


def _empty(host: Host) -> SnapshotOf:
    async def snapshot(stream: str) -> tuple[int, bytes]:
        return host.feed.head(stream).seq, b"{}"

    return snapshot
