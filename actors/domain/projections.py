"""The projections and followers of a service: where each stands, and what administrators may do with them."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from huahuo.actors.domain import rebuilding, row_versions
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.followers import record
from huahuo.actors.followers.follower import Follower
from huahuo.actors.followers.followers import Followers
from huahuo.actors.followers.record import Tables
from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Refusal, Reply, error_reply
from huahuo.actors.plugins.plugin import Host
from huahuo.actors.plugins.projections import Projection, Standing
from huahuo.actors.timers.timer import TABLE as TIMERS

ROWS: Final = "rows"
FOLLOWER: Final = "follower"
INDEX: Final = "index"
UNKNOWN: Final = "not in the application"
UP_TO_DATE: Final = "up to date"
OTHER_CODE: Final = "made by other code: rebuild it"
NOT_FINAL: Final = "another version writes these rows: update all nodes, then `huahuo cluster finalize`"


type _Act = Callable[[Follower | Projection, str], Awaitable[dict[str, Any]]]
"""Does something with a follower for somebody, and returns more fields of `success`."""


class _Nothing(Struct, frozen=True):
    pass


class _Named(Struct, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=64)]


def actions(host: Host, catalog: Catalog, followers: Followers) -> list[Action]:
    """What administrators may ask of a running service."""
    log, kept = host.log, host.projections

    async def listed(call: Call[_Nothing]) -> Reply:
        del call
        rows = await projections(log, catalog)
        data = [*rows, *await followers.standing(), *(one.standing() for one in kept.values())]
        return _said({"type": "get_projections", "data": data, "position": log.position})

    def on(act: _Act) -> Callable[[Call[_Named]], Awaitable[Reply]]:
        async def handle(call: Call[_Named]) -> Reply:
            one = followers.by_name.get(call.params.name) or kept.get(call.params.name)
            if one is None:
                known = (*followers.by_name, *kept)
                return error_reply(Refusal("not_found", no_follower(call.params.name, known)))
            return _said({"type": "success", **await act(one, call.principal.name)})

        return handle

    async def rebuild(call: Call[_Named]) -> Reply:
        name, by = call.params.name, call.principal.name
        projection = kept.get(name)
        if projection is not None:
            await projection.rebuild(by)
            return _said({"type": "success"})
        if name not in rebuilding.tables(log, catalog):
            return error_reply(Refusal("not_found", f"{name} is not made anew while the service runs"))
        if host.shared and name in catalog.derived and not await row_versions.is_final(log, catalog, name):
            return error_reply(Refusal("conflict", NOT_FINAL))
        try:
            rows = await rebuilding.rebuild(log, name, catalog, now_ms=host.ambient.now_ms(), by=by)
        except rebuilding.Superseded as why:
            return error_reply(Refusal("conflict", str(why)))
        return _said({"type": "success", "rows": rows, "states": name in catalog.derived})

    async def pause(one: Follower | Projection, by: str) -> dict[str, Any]:
        await one.pause(by, paused=True)
        return {}

    async def resume(one: Follower | Projection, by: str) -> dict[str, Any]:
        await one.pause(by, paused=False)
        return {}

    async def retry(one: Follower | Projection, by: str) -> dict[str, Any]:
        return {"dead_letters": await one.retry(by)}

    return [
        Action("get_projections", _Nothing, listed, query=True, admin=True),
        Action("pause_projection", _Named, on(pause), admin=True, frees=True),
        Action("resume_projection", _Named, on(resume), admin=True, frees=True),
        Action("retry_projection", _Named, on(retry), admin=True, frees=True),
        Action("rebuild_projection", _Named, rebuild, admin=True, frees=True),
    ]


async def projections(log: Tables, catalog: Catalog) -> list[Standing]:
    """The tables of rows. They change in the commits of the events, so none is ever behind."""
    head, old = log.position, await rebuilding.outdated(log, catalog)
    rows = [
        Standing(name, ROWS, head, 0, OTHER_CODE if name in old else UP_TO_DATE)
        for name in rebuilding.tables(log, catalog)
    ]
    unknown = [name for name in await rebuilding.remembered(log) if name not in {row.name for row in rows}]
    rows += [Standing(name, ROWS, head, 0, UNKNOWN) for name in unknown]
    return [Standing(TIMERS, ROWS, head, 0, UP_TO_DATE), *rows]


async def at_rest(
    log: Tables, catalog: Catalog, declared: Collection[str] | None, indexes: Collection[str] = ()
) -> list[Standing]:
    """Where everything stands on a log that no service has open.

    `declared`: followers of the application, None if it is not known. `indexes`: what plug-ins keep.
    """
    found = await projections(log, catalog)
    for name in sorted({*(declared or ()), *await record.names(log)}):
        one = await record.standing(log, name)
        shown = one.state if declared is None or name in declared else UNKNOWN
        found.append(replace(one, what=INDEX if name in indexes else FOLLOWER, state=shown))
    return found


def no_follower(name: str, there_are: Iterable[str]) -> str:
    """What to say of a name that no follower has."""
    names = ", ".join(sorted(there_are))
    return f"there is no follower {name!r}: {f'there are {names}' if names else 'the application has none'}"


def _said(body: dict[str, Any]) -> Reply:
    return Reply(msgspec.json.encode(body))
