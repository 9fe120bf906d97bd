"""Plug-ins into the service: each brings what it has, and all of it is registered."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from huahuo.actors.entities.entity import Query
from huahuo.actors.plugins.actions import MayRead, Registry, SnapshotOf
from huahuo.actors.plugins.http import RESERVED
from huahuo.actors.plugins.plugin import Brought, Host, Plugin, Readers
from huahuo.actors.plugins.principal import Principal
from huahuo.actors.plugins.snapshots import merged

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
    for name, of in brought.snapshots.items():
        registry.snapshot(name, of)
    if brought.words is not None:
        registry.words.add(*brought.words)
    registry.tongues += brought.tongues
    registry.guarded |= brought.guarded
    registry.right_types |= brought.right_types


def _judge(kind: str, readers: Readers, host: Host) -> MayRead:
    async def may_read(stream: str, principal: Principal) -> bool:
        asked: Query[Any, bool] = Query(lambda _seq, state: readers(state, principal))
        return bool(await host.directory.ask(kind, stream.partition("/")[2], asked))

    return may_read


def _empty(host: Host) -> SnapshotOf:
    async def snapshot(stream: str) -> tuple[int, bytes]:
        return host.feed.head(stream).seq, b"{}"

    return snapshot
