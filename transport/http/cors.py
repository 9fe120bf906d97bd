"""Pages of other origins (CORS). The setting `origins` decides, as for WebSockets. Pure."""

from collections.abc import Sequence
from http import HTTPStatus

from huahuo.transport.access.origin import origin_allowed
from huahuo.transport.http.messages import Answer, Headers, Request

_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Huahuo-Client, If-None-Match, "
    "Stream-Closed, Stream-Expires-At, Stream-Seq, Stream-TTL, Producer-Id, Producer-Epoch, Producer-Seq"
)
_EXPOSED = (
    "ETag, Huahuo-Heartbeat, Link, Location, Retry-After, Stream-Closed, Stream-Cursor, Stream-Expires-At, "
    "Stream-Next-Offset, Stream-SSE-Data-Encoding, Stream-TTL, Stream-Up-To-Date, "
    "Producer-Epoch, Producer-Seq, Producer-Expected-Seq, Producer-Received-Seq"
)
_PREFLIGHT_S = 7200


def cors_headers(request: Request, origins: Sequence[str]) -> Headers | None:
    """What lets the page read the answer. None: its origin is refused.

    Every answer varies: a cache must not give a page one that was made for a request without an origin.
    """
    said = request.all("origin")
    if not said:
        return (("Vary", "Origin"),)
    if not origin_allowed(said, request.all("host"), origins):
        return None
    return (
        ("Access-Control-Allow-Origin", said[0].strip()),
        ("Access-Control-Expose-Headers", _EXPOSED),
        ("Vary", "Origin"),
    )


def preflight(allowed: Sequence[str], headers: Headers) -> Answer:
    """The answer to a browser that asks before it sends a request with a token."""
    methods = ", ".join(allowed)
    return Answer(
        HTTPStatus.NO_CONTENT,
        (
            *headers,
            ("Allow", methods),
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", _HEADERS),
            ("Access-Control-Max-Age", str(_PREFLIGHT_S)),
        ),
    )
