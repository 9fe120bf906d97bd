"""The door for other nodes: `POST /nodes/NAME` on the service's own port, signed by the cluster's secret.

Who adds a request gives its name, the struct of its fields and a function:

    door.on("where", Where, answer)        # async def answer(node: str, asked: Where) -> object

The answer is any value that MessagePack holds. `Refused` is told to the node that asks. `asking` is the other
side. A page in a browser can't call it: it has no secret, and whatever names an origin is refused first.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog

from huahuo.actors.plugins.principal import Principal
from huahuo.cluster import errors, signing
from huahuo.cluster.errors import Refused
from huahuo.cluster.replays import WINDOW_MS, Replays
from huahuo.cluster.signing import Head, Signer
from huahuo.eventstore.ambient import Ambient
from huahuo.transport.access.door import RequestLimit
from huahuo.transport.access.verified import Verified
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.messages import NO_STORE, Answer, Request

BODY_BYTES_MAX: Final = 1 << 20
REQUESTS_PER_S: Final = 500
"""Of one node; bursts of four times that."""
RUNNING_MAX: Final = 64
_TOLD_EVERY_S: Final = 60.0
_TYPE: Final = "application/x-msgpack"
_STATUS: Final = {
    errors.WRONG_KEY: HTTPStatus.FORBIDDEN,
    errors.NOT_FOUND: HTTPStatus.NOT_FOUND,
    errors.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.FAILED: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_RENEWED: Final = "it was asked as another process of this node"
_log = structlog.get_logger(__name__)

type Handler = Callable[[str, Any], Awaitable[object]]


class Refusal(msgspec.Struct, frozen=True):
    """The body of an answer that says no."""

    code: str
    detail: str
    life: str = ""
    """With `other_life`: the token of the process that was asked. It is to be named, and asked again."""
    now_ms: int = 0
    """With `stale`: what the clock of the node that was asked shows."""


class NodesDoor:
    """See the module. Implements `transport.http.api.NodesDoor`. `node`: the name of this one."""

    body_bytes_max = BODY_BYTES_MAX

    def __init__(self, *, secret: bytes, node: str, log_id: str, ambient: Ambient) -> None:
        self.node = node
        self.refused_count = 0
        self._signer = Signer(secret)
        self._log_id = log_id
        self._ambient = ambient
        self.life = ambient.token(8)
        """Of this process: what was signed for an earlier one, or for none, is refused unseen."""
        self._replays = Replays()
        self._limit = RequestLimit(REQUESTS_PER_S)
        self._handlers: dict[str, tuple[type[Any], Handler]] = {}
        self._running = 0
        self._told_s: dict[str, float] = {}

    def on[T](self, name: str, kind: type[T], handler: Callable[[str, T], Awaitable[object]]) -> None:
        """Answer requests of this name from now on. `handler` gets the asking node's name and its fields.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._handlers:
            raise ValueError(f"two parts answer the nodes' request {name!r}")
        self._handlers[name] = (kind, handler)

    def admit(self, request: Request, name: str, address: str) -> Verified | Answer:
        """Who asks, by the head alone; or the refusal."""
        if request.header("origin") is not None or any(
            known.startswith("sec-fetch-") for known, _ in request.headers
        ):
            return self._no("forbidden", "this is for nodes only", address=address)
        found = signing.read(name, request.header)
        if found is None:
            return self._no("bad_message", "a signed request of a node is needed", address=address)
        head, mark, mac = found
        if mark != self._signer.mark:
            why = "its master key is another one than that of this node"
            return self._no(errors.WRONG_KEY, why, node=head.from_, address=address)
        if not self._signer.signed(head, mac):
            return self._no("forbidden", "the signature does not fit", node=head.from_, address=address)
        return self._judged(head, address)

    def _judged(self, head: Head, address: str) -> Verified | Answer:
        """Whether a request that is signed may be answered now."""
        now_s = self._ambient.monotonic_s()
        if head.to not in ("", self.node):
            why = f"it is for the node {head.to}, and this is {self.node}"
            return self._no("not_here", why, head=head, address=address)
        if head.log != self._log_id:
            return self._no("other_log", "it is of another log", head=head, address=address)
        if head.life != self.life:
            return self._signed(head, HTTPStatus.CONFLICT, _encoded(errors.OTHER_LIFE, _RENEWED, self.life))
        now_ms = self._ambient.now_ms()
        apart_s = abs(head.time_ms - now_ms) / 1000
        if apart_s * 1000 > WINDOW_MS:
            why = f"its clock and the one of {self.node} are {apart_s:.0f} s apart: set them"
            return self._no(errors.STALE, why, head=head, address=address, now_ms=now_ms)
        if not self._replays.is_new(head.process, head.number, now_s):
            return self._no("replayed", "the same request came before", head=head, address=address)
        if self._limit.take(head.from_, now_s):
            return self._no(errors.BUSY, "too many requests of this node", head=head, address=address)
        return Verified(Principal(f"node/{head.from_}", head.from_), 0)

    async def answer(self, visit: Visit, body: bytes) -> Answer:
        """Answer a request that was admitted."""
        found = signing.read(visit.route.name, visit.request.header)
        assert found is not None, "it was admitted"
        head = found[0]
        if signing.digest_of(body) != head.digest:
            return self._no("bad_message", "the body is not what was signed", head=head)
        if self._running >= RUNNING_MAX:
            return self._no(errors.BUSY, "too many requests of nodes run", head=head)
        self._running += 1
        try:
            said = await self._handled(head, body)
        except Refused as refused:
            return self._no(refused.code, refused.detail, head=head)
        except Exception:  # noqa: BLE001  the asking node is told where to look
            _log.exception("node_request_failed", node=head.from_, request=head.name)
            return self._no(errors.FAILED, f"{self.node} failed; its log says why", head=head)
        finally:
            self._running -= 1
        return self._signed(head, HTTPStatus.OK, msgspec.msgpack.encode(said))

    async def _handled(self, head: Head, body: bytes) -> object:
        known = self._handlers.get(head.name)
        if known is None:
            raise Refused(errors.NOT_FOUND, f"it knows no request {head.name!r}: its version is another one")
        kind, handler = known
        try:
            asked = msgspec.msgpack.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Refused("bad_message", f"{head.name}: {error}") from None
        return await handler(head.from_, asked)

    def _no(
        self, code: str, detail: str, *, head: Head | None = None, node: str = "", address: str = "",
        now_ms: int = 0,
    ) -> Answer:  # fmt: skip
        """A refusal; signed only for a node that has the secret."""
        if address:
            self.refused_count += 1
            self._tell(code, detail, head.from_ if head else node, address)
        body = _encoded(code, detail, now_ms=now_ms)
        status = _STATUS.get(code, HTTPStatus.CONFLICT if head else HTTPStatus.FORBIDDEN)
        return self._signed(head, status, body)

    def _signed(self, head: Head | None, status: HTTPStatus, body: bytes) -> Answer:
        mac = () if head is None else ((signing.MAC, self._signer.answer(head.once, status, body)),)
        headers = (("Content-Type", _TYPE), ("Cache-Control", NO_STORE), *mac)
        return Answer(status, headers, body, ends=head is None)

    def _tell(self, code: str, detail: str, node: str, address: str) -> None:
        """Say in the log who was refused: each once a minute."""
        now_s = self._ambient.monotonic_s()
        self._told_s = {key: at_s for key, at_s in self._told_s.items() if now_s - at_s < _TOLD_EVERY_S}
        key = f"{code} {node}"
        if key not in self._told_s and len(self._told_s) < RUNNING_MAX:
            self._told_s[key] = now_s
            _log.warning("node_refused", node=node or "?", address=address, code=code, reason=detail)


def _encoded(code: str, detail: str, life: str = "", now_ms: int = 0) -> bytes:
    return msgspec.msgpack.encode(Refusal(code, detail, life, now_ms))
