"""Answers plain HTTP on the port (PROTOCOL 11): health, metrics, and small static files.

`Site.respond` is called for every request that nothing else answers.
"""

import gzip
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Self

import msgspec
import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.port import Log
from huahuo.transport.access.door import RequestLimit, is_loopback
from huahuo.transport.http.messages import NO_STORE, Answer, Headers, Request, problem, wrong_method
from huahuo.transport.http.stream_pages import matches
from huahuo.transport.load.metrics import CONTENT_TYPE, Metrics
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.words import http_zh

PATH_CHARS_MAX = 2048
CSP = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "connect-src 'self' ws: wss:; img-src 'self' data:; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The default policy; an asset may have its own. `frame-src`: the console shows a mail in a frame."""

CACHE_FOR_EVER = "public, max-age=31536000, immutable"
CACHE_ASK_AGAIN = "no-cache"

_PROBES = ("/healthz", "/readyz")
_NO_PAGES = ("/api/", "/assets/", "/client/")
"""Below these, a path without a file is an error and no page."""
_GZIP_LEVEL = 6
"""The highest level takes twice as long at each start, for half a per cent."""
_COMPRESSED = ("text/", "application/javascript", "application/json", "application/wasm", "image/svg")

_log = structlog.get_logger(__name__)


class Phase(StrEnum):
    """Whether the service accepts work."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class Asset(msgspec.Struct, frozen=True):
    """A file served from memory. `gzipped` is empty if compression does not make it smaller.

    `any_origin`: pages of every origin may read it. `below`: how a page writes the service's root in links;
    "": it has none.
    """

    content_type: str
    body: bytes
    etag: str
    cache: str = CACHE_ASK_AGAIN
    gzipped: bytes = b""
    csp: str = CSP
    any_origin: bool = False
    below: str = ""

    @classmethod
    def of(
        cls,
        content_type: str,
        body: bytes,
        cache: str = CACHE_ASK_AGAIN,
        csp: str = CSP,
        *,
        any_origin: bool = False,
    ) -> Self:
        """An asset. A compressible type is compressed once, here."""
        small = gzip.compress(body, _GZIP_LEVEL, mtime=0) if content_type.startswith(_COMPRESSED) else body
        etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        gzipped = small if len(small) < len(body) else b""
        return cls(content_type, body, etag, cache, gzipped, csp, any_origin)


class Site:
    """Answers GET and HEAD. `assets` maps a path to its file and may be added to while serving.

    Each address may send `requests_per_s` requests a second, in bursts of at most four times that; 0 means no
    limit. Probes from the same machine are not counted, so that a storm does not make the service look dead.
    """

    def __init__(
        self,
        log: Log,
        ambient: Ambient,
        metrics: Metrics,
        assets: Mapping[str, Asset],
        *,
        requests_per_s: int = 0,
        elsewhere: Asset | None = None,
    ) -> None:
        """`elsewhere`: the page for paths without a file, of a page that has paths of its own."""
        self._log = log
        self._ambient = ambient
        self._metrics = metrics
        self._assets = assets
        self._elsewhere = elsewhere
        self.told: Callable[[], str | None] = lambda: None
        """What `/readyz` adds to `ready`."""
        self.limit = RequestLimit(requests_per_s)
        self.phase = Phase.STARTING
        self.unfit: str | None = None
        """Why `/readyz` is 503 in spite of the phase."""
        self.gather: Callable[[], Awaitable[bytes]] | None = None
        """Makes the text of `/metrics` where several processes count."""

    @property
    def takes_clients(self) -> bool:
        """Whether `/readyz` says so, but for the log."""
        return self.phase is Phase.READY and self.unfit is None

    async def respond(self, request: Request, address: str, root: str = "") -> Answer:
        """The answer to a request. `address`: see `Door.address`.

        `root`: the path at which a client finds the service, if that is known, without a slash at its end.
        """
        wait_s = 0.0
        if not (is_loopback(address) and request.path in _PROBES):
            wait_s = self.limit.take(address, self._ambient.monotonic_s())
        if wait_s > 0:
            return _strict(problem(ErrorCode.RATE_LIMITED, http_zh.TOO_MANY_REQUESTS, retry_s=wait_s))
        return await self._answer(request, root)

    async def _answer(self, request: Request, root: str) -> Answer:
        path = request.path
        if request.method not in {"GET", "HEAD"}:
            return _strict(wrong_method(("GET", "HEAD")))
        if len(path) > PATH_CHARS_MAX:
            status = HTTPStatus.REQUEST_URI_TOO_LONG
            return _strict(problem(ErrorCode.TOO_LARGE, http_zh.PATH_TOO_LONG, status=status))
        match path:
            case "/healthz":
                return _text(HTTPStatus.OK, "ok")
            case "/readyz":
                return await self._ready()
            case "/metrics":
                text = self._metrics.text() if self.gather is None else await self.gather()
                return _page(HTTPStatus.OK, CONTENT_TYPE, text, NO_STORE)
        asset = self._assets.get(path)
        if asset is None and not (path.startswith(_NO_PAGES) or "." in path.rpartition("/")[2]):
            asset = self._elsewhere
        if asset is None:
            return _strict(problem(ErrorCode.NOT_FOUND, http_zh.NOTHING_HERE))
        if root and asset.below:  # also without a slash at the end of the address
            body = asset.body.replace(f'="{asset.below}'.encode(), f'="{root}/'.encode())
            asset = Asset.of(asset.content_type, body, asset.cache, asset.csp)
        return _file(request, asset)

    async def _ready(self) -> Answer:
        if self.phase is not Phase.READY:
            return _text(HTTPStatus.SERVICE_UNAVAILABLE, self.phase.value)
        reason = self.unfit or await self._ask_log()
        if reason is not None:
            return _text(HTTPStatus.SERVICE_UNAVAILABLE, reason)
        told = self.told()
        return _text(HTTPStatus.OK, "ready" if told is None else f"ready; {told}")

    async def _ask_log(self) -> str | None:
        try:
            return await self._log.probe()
        except Exception:  # noqa: BLE001  a failed probe is an answer; its text is only logged
            _log.exception("probe_failed")
            return "the log cannot be asked"


def _file(request: Request, asset: Asset) -> Answer:
    extra = [("ETag", asset.etag)]
    if asset.any_origin:
        extra += [("Access-Control-Allow-Origin", "*"), ("Cross-Origin-Resource-Policy", "cross-origin")]
    status, body = HTTPStatus.OK, asset.body
    if asset.gzipped:
        extra.append(("Vary", "Accept-Encoding"))
        if _accepts_gzip(request):
            extra.append(("Content-Encoding", "gzip"))
            body = asset.gzipped
    if matches(asset.etag, request.all("if-none-match")):
        status, body = HTTPStatus.NOT_MODIFIED, b""
    return _page(status, asset.content_type, body, asset.cache, tuple(extra), asset.csp)


def _text(status: HTTPStatus, text: str) -> Answer:
    return _page(status, "text/plain; charset=utf-8", f"{text}\n".encode(), NO_STORE)


def _page(
    status: HTTPStatus, content_type: str, body: bytes, cache: str, extra: Headers = (), csp: str = CSP
) -> Answer:
    headers = (("Content-Type", content_type), ("Cache-Control", cache))
    return _strict(Answer(status, headers, body), csp).adding(extra)


def _strict(answer: Answer, csp: str = CSP) -> Answer:
    """The same with what a browser may do with it; its connection ends."""
    rules = (
        ("Content-Security-Policy", csp),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
    )
    return msgspec.structs.replace(answer.adding(rules), ends=True)


def _accepts_gzip(request: Request) -> bool:
    for item in ",".join(request.all("accept-encoding")).split(","):
        coding, _, weight = item.lower().replace(" ", "").partition(";")
        if coding == "gzip":
            return weight not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
