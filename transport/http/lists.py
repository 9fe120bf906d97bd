"""Live lists over HTTP: pages, and readers of server-sent events.

The fields of a list are parameters, as text. The id of an event is the whole place of its reader (`From` of
PROTOCOL 12.5), so an `EventSource` that comes back gets what changed.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from huahuo.eventstore.errors import EventStoreError
from huahuo.eventstore.limits import KEY_BYTES_MAX
from huahuo.replay.list_window import ListPlace, ListRange, ListRow, page, page_ranges
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.messages import Answer, json_answer, problem
from huahuo.transport.http.stream_pages import AskedWrongly, limit_of
from huahuo.transport.load.fair_queueing import Crowded
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.incoming import Bound, From
from huahuo.transport.server.views import row_of
from huahuo.transport.server.wires import Wires
from huahuo.transport.words import http_zh

_PAGE: Final = ("limit", "after", "ticket")
"""Parameters of every list. `after`: the `next` of the page before; of a reader, the id of its last event."""
_TEXT_CHARS_MAX: Final = 4 * KEY_BYTES_MAX
_BYTES_MAX: Final = 1 << 20
"""A page has so many bytes of rows, or one longer row."""

_from = msgspec.json.Decoder(From)
_bound: Final = msgspec.json.Decoder[str | list[str]](Bound)


def encoded(place: object) -> str:
    """A place as text that may stand in a URL or in the id of an event."""
    return urlsafe_b64encode(msgspec.json.encode(place)).rstrip(b"=").decode()


def _decoded[T](text: str, decoder: msgspec.json.Decoder[T], name: str) -> T:
    """Raises AskedWrongly: the text is no such place."""
    text = text[:_TEXT_CHARS_MAX]
    try:
        return decoder.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise AskedWrongly(http_zh.PLACE_NEEDED.format(name)) from None


def fields_of(query: Mapping[str, str]) -> dict[str, str]:
    """The list's own parameters."""
    return {name: value for name, value in query.items() if name not in _PAGE}


def follow_of(name: str, query: Mapping[str, str], last_event_id: str | None) -> dict[str, Any]:
    """The message `follow` for a reader. Raises AskedWrongly."""
    since = last_event_id or query.get("after")
    said = {"action": "follow", "list": name, "fields": fields_of(query), "limit": limit_of(query)}
    if since:
        said["from"] = _decoded(since, _from, "after")
    return said


class ListPages:
    """Answers `GET /lists/<name>` with a page."""

    def __init__(self, wires: Wires) -> None:
        self._wires = wires

    async def page(self, visit: Visit) -> Answer:
        """One page, at one commit. Raises AskedWrongly."""
        query, name = visit.request.query, visit.route.name
        limit, after = limit_of(query), query.get("after")
        bound = None if after is None else _decoded(after, _bound, "after")
        try:
            answered = await self._wires.views.ask(visit.principal, name, fields_of(query), as_text=True)
            if answered.code:
                detail = f"{answered.message} ({answered.details})" if answered.details else answered.message
                return problem(answered.code, detail)
            if answered.rows is None:
                return problem(ErrorCode.FORBIDDEN, http_zh.NOT_YOURS_TO_READ)
            rows = answered.rows.with_limit(limit)
            try:
                place = rows.place_of(bound)
            except ValueError:
                raise AskedWrongly(http_zh.PLACE_NEEDED.format("after")) from None
            async with self._wires.supply.turns.turn(visit.principal.name):
                return await self._read(visit, name, rows, place)
        except Crowded:
            return problem(ErrorCode.BUSY, http_zh.QUERIES_WAIT)
        except EventStoreError:
            return problem(ErrorCode.UNAVAILABLE, http_zh.LOG_NOT_READ)

    async def _read(self, visit: Visit, name: str, rows: ListRange, after: ListPlace | None) -> Answer:
        if not visit.purse.reserve(_BYTES_MAX, self._wires.ambient.monotonic_s()):
            return problem(ErrorCode.BUSY, http_zh.ANSWERS_UNREAD)
        log = self._wires.views.log
        found = await log.rows_at_once(page_ranges(rows, after))
        whole, more = page(rows, after, found)
        cut = _within(whole)
        said = {
            "list": name,
            "log": log.log_id,
            "position": found.position,
            "of": rows.name,
            "rows": [row_of(rows, row) for row in cut],
            "next": encoded(rows.shown(cut[-1].place)) if more or len(cut) < len(whole) else None,
        }
        body = msgspec.json.encode(said)
        visit.purse.correct(_BYTES_MAX, len(body))
        return json_answer(body, (("Cache-Control", "private, no-cache"), ("Vary", "Accept, Authorization")))


def _within(rows: Sequence[ListRow]) -> Sequence[ListRow]:
    """The first rows that fit into `_BYTES_MAX`, at least one if there is one."""
    size = 0
    for number, row in enumerate(rows):
        size += len(row.value) + len(row.place.key)
        if number and size > _BYTES_MAX:
            return rows[:number]
    return rows
