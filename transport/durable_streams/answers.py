"""What is told of a stream: its pages and its state, as answers. Pure."""

from http import HTTPStatus
from typing import Final

from huahuo.eventstore.ambient import rfc3339
from huahuo.transport.durable_streams.asking import offset_text
from huahuo.transport.durable_streams.deciding import State
from huahuo.transport.durable_streams.part import Part
from huahuo.transport.durable_streams.rights import ANYBODY
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.messages import NO_STORE, Answer, Headers
from huahuo.transport.http.pages import matches

_KEPT_S: Final = 60


def page(visit: Visit, part: Part, live: Headers = (), *, shared: bool, tagged: bool = True) -> Answer:
    """A part of a stream. `live`: the headers of a live answer.

    `shared`: a cache may give it to everybody; `tagged`: it has an ETag.
    """
    who = "public" if shared else "private"
    keep = f"{who}, max-age={_KEPT_S}, stale-while-revalidate=300"
    if live or not tagged:
        keep = NO_STORE
    elif part.at_end and not part.closed:
        keep = f"{who}, no-cache"
    of_somebody = not shared and visit.verified is not ANYBODY
    head = (
        ("Content-Type", part.state.content_type),
        ("Cache-Control", keep),
        *((("Vary", "Authorization"),) if of_somebody else ()),
        *end_headers(part),
        *live,
    )
    if not tagged:
        return Answer(HTTPStatus.OK, head, part.body)
    end = ":c" if part.closed else ""
    etag = f'"{part.state.start}:{part.after}:{part.following}{end}"'
    head = (*head, ("ETag", etag))
    if matches(etag, visit.request.all("if-none-match")):
        return Answer(HTTPStatus.NOT_MODIFIED, head)
    return Answer(HTTPStatus.OK, head, part.body)


def described(state: State, now_ms: int) -> Answer:
    """What is told of a stream without its content."""
    due_ms = state.due_ms
    life: Headers = ()
    if state.ttl_s is not None and due_ms is not None:
        life = (("Stream-TTL", str(-((now_ms - due_ms) // 1000))),)
    elif due_ms is not None:
        life = (("Stream-Expires-At", rfc3339(due_ms)),)
    fixed = (("Content-Type", state.content_type), ("Cache-Control", NO_STORE))
    return Answer(HTTPStatus.OK, (*fixed, *state.headers, *life))


def end_headers(part: Part) -> Headers:
    """Where a part ends, and whether more follows it."""
    up_to_date = (("Stream-Up-To-Date", "true"),) if part.at_end else ()
    closed = (("Stream-Closed", "true"),) if part.closed else ()
    return (("Stream-Next-Offset", offset_text(part.following)), *up_to_date, *closed)
