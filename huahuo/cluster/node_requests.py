"""Requests between nodes: `POST /nodes/NAME` on the service's own port, signed by the cluster's secret.

    door.on("where", Where, answer)        # async def answer(node: str, asked: Where) -> object
    found = await asker.ask(url, "web-2", "where", Where(user=42), Found)

The answer is any value that MessagePack holds. `Refused` is told to the node that asks. There is one
connection for each request. It is verified that the answer is of a node that has the secret, and for this
request. A request names the process that it is for. `Peers` asks one node by its name, or all at once.
"""

import asyncio
import itertools
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import h11
import msgspec
import structlog

from huahuo.actors.plugins.calls import Principal
from huahuo.cluster import request_signing
from huahuo.cluster.members import Member
from huahuo.cluster.request_signing import WINDOW_MS, Head, Replays, Signer
from huahuo.errors import HuahuoError
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline
from huahuo.transport.access.door import RequestLimit
from huahuo.transport.access.rights import Verified
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.messages import NO_STORE, Answer, Request

WRONG_KEY = "wrong_key"
STALE = "stale"
OTHER_LIFE = "other_life"
NOT_FOUND = "not_found"
BUSY = "busy"
UNAVAILABLE = "unavailable"
FAILED = "failed"


class NodeError(HuahuoError):
    """Another node gave no usable answer. `node`: its name, or its URL while that is all that is known."""

    def __init__(self, node: str, text: str) -> None:
        super().__init__(f"the node {node} {text}")
        self.node = node


class NodeSilent(NodeError):  # noqa: N818  the condition is the name
    """No answer: it may have done what it was asked for, or not."""


class NodeBegins(NodeSilent):
    """It has not said yet where it listens, since it starts."""

    def __init__(self, node: str) -> None:
        super().__init__(node, "has not said where it is")


class NodeRefused(NodeError):  # noqa: N818  the condition is the name
    """It said no. `code`: `wrong_key`, `not_found` (also: an older version), `busy`, or the request's own."""

    def __init__(self, node: str, code: str, detail: str) -> None:
        super().__init__(node, f"refused: {detail}")
        self.code = code
        self.detail = detail


class Refused(Exception):  # noqa: N818  it is told to the node that asks
    """A handler's refusal: the asking node gets it as `NodeRefused` with this code."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


BODY_BYTES_MAX: Final = 1 << 20
REQUESTS_PER_S: Final = 500
"""Of one node; bursts of four times that."""
RUNNING_MAX: Final = 64
_TOLD_EVERY_S: Final = 60.0
_TYPE: Final = "application/x-msgpack"
_STATUS: Final = {
    WRONG_KEY: HTTPStatus.FORBIDDEN,
    NOT_FOUND: HTTPStatus.NOT_FOUND,
    BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
    UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    FAILED: HTTPStatus.INTERNAL_SERVER_ERROR,
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


class NodesDoor:
    """The door for other nodes: `POST /nodes/NAME` on the service's own port, signed by the cluster's secret.

    Implements `transport.http.api.NodesDoor`. `node`: the name of this one.
    """

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
        header = request.header(request_signing.HEADER)
        head = request_signing.read_head(header)
        if header is None or head is None or head.name != name:
            return self._no("bad_message", "a signed request of a node is needed", address=address)
        if head.key != self._signer.mark:
            why = "its master key is another one than that of this node"
            return self._no(WRONG_KEY, why, node=head.from_, address=address)
        if not self._signer.signed(header):
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
            return self._signed(head, HTTPStatus.CONFLICT, _encoded(OTHER_LIFE, _RENEWED, self.life))
        apart_s = abs(head.time_ms - self._ambient.now_ms()) / 1000
        if apart_s * 1000 > WINDOW_MS:
            why = f"its clock and the one of {self.node} are {apart_s:.0f} s apart: set them"
            return self._no(STALE, why, head=head, address=address)
        if not self._replays.is_new(head.process, head.number, now_s):
            return self._no("replayed", "the same request came before", head=head, address=address)
        if self._limit.take(head.from_, now_s):
            return self._no(BUSY, "too many requests of this node", head=head, address=address)
        return Verified(Principal(f"node/{head.from_}", head.from_), 0)

    async def answer(self, visit: Visit, body: bytes) -> Answer:
        """Answer a request that was admitted."""
        head = request_signing.read_head(visit.request.header(request_signing.HEADER))
        assert head is not None, "it was admitted"
        if request_signing.digest_of(body) != head.digest:
            return self._no("bad_message", "the body is not what was signed", head=head)
        if self._running >= RUNNING_MAX:
            return self._no(BUSY, "too many requests of nodes run", head=head)
        self._running += 1
        try:
            said = await self._handled(head, body)
        except Refused as refused:
            return self._no(refused.code, refused.detail, head=head)
        except Exception:  # noqa: BLE001  the asking node is told where to look
            _log.exception("node_request_failed", node=head.from_, request=head.name)
            return self._no(FAILED, f"{self.node} failed; its log says why", head=head)
        finally:
            self._running -= 1
        return self._signed(head, HTTPStatus.OK, msgspec.msgpack.encode(said))

    async def _handled(self, head: Head, body: bytes) -> object:
        known = self._handlers.get(head.name)
        if known is None:
            raise Refused(NOT_FOUND, f"it knows no request {head.name!r}: its version is another one")
        kind, handler = known
        try:
            asked = msgspec.msgpack.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Refused("bad_message", f"{head.name}: {error}") from None
        return await handler(head.from_, asked)

    def _no(
        self, code: str, detail: str, *, head: Head | None = None, node: str = "", address: str = ""
    ) -> Answer:
        """A refusal; signed only for a node that has the secret."""
        if address:
            self.refused_count += 1
            self._tell(code, detail, head.from_ if head else node, address)
        body = _encoded(code, detail)
        status = _STATUS.get(code, HTTPStatus.CONFLICT if head else HTTPStatus.FORBIDDEN)
        return self._signed(head, status, body)

    def _signed(self, head: Head | None, status: HTTPStatus, body: bytes) -> Answer:
        mac = () if head is None else ((request_signing.MAC, self._signer.answer(head, status, body)),)
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


def _encoded(code: str, detail: str, life: str = "") -> bytes:
    return msgspec.msgpack.encode(Refusal(code, detail, life))


TIMEOUT_S: Final = 5.0
ANSWER_BYTES_MAX: Final = 8 << 20
_LIVES_MAX: Final = 1000
_READ_BYTES: Final = 256 << 10


class Asker:
    """Requests to other nodes, signed by the cluster's secret: the other side of `door`.

    `node`: the name of this one.
    """

    def __init__(
        self, *, secret: bytes, node: str, log_id: str, ambient: Ambient, tls: ssl.SSLContext | None = None
    ) -> None:
        """`tls`: for `https://`; by default the machine's authorities are trusted."""
        self.node = node
        self._signer = Signer(secret)
        self._log_id = log_id
        self._ambient = ambient
        self._tls = tls
        self._process = ambient.token(8)
        self._numbers = itertools.count(1)
        self._lives: dict[str, str] = {}
        """By URL: the process that answered there last."""

    async def ask[T](
        self, url: str, node: str, name: str, asked: object, kind: type[T], *, timeout_s: float = TIMEOUT_S
    ) -> T:
        """The answer of the node at `url`. `node` may be empty: any node there answers.

        Raises:
            NodeSilent: there was none, within `timeout_s`; or not one of a node that has the secret.
            NodeRefused: it said no.
        """
        body = msgspec.msgpack.encode(asked)
        at = node or url
        try:
            async with Deadline(self._ambient, timeout_s):
                head = self._head(url, node, name, body)
                status, headers, said = await self._posted(url, head, body)
                if self._is_another_life(url, head, status, headers, said):
                    head = self._head(url, node, name, body)
                    status, headers, said = await self._posted(url, head, body)
        except TimeoutError:
            raise NodeSilent(at, f"did not answer within {timeout_s:g} s") from None
        except ssl.SSLError as error:
            raise NodeSilent(at, f"at {url} has no certificate that is trusted here: {error}") from None
        except (OSError, ValueError) as error:
            raise NodeSilent(at, f"at {url} can't be reached: {error}") from None
        except h11.ProtocolError as error:
            raise NodeSilent(at, f"at {url} can't be asked by HTTP: {error}") from None
        return self._read(at, url, head, status, headers, said, kind)

    def _head(self, url: str, node: str, name: str, body: bytes) -> Head:
        return Head(
            name, self.node, node, self._lives.get(url, ""), self._log_id, self._signer.mark,
            self._ambient.now_ms(), self._process, next(self._numbers), request_signing.digest_of(body),
        )  # fmt: skip

    def _is_another_life(
        self, url: str, head: Head, status: int, headers: Sequence[tuple[bytes, bytes]], said: bytes
    ) -> bool:
        """Whether the request was refused because another process is there now. It is noted."""
        if status != HTTPStatus.CONFLICT or not self._signer.answered(head, status, said, _mac(headers)):
            return False
        refusal = _refusal(said)
        if refusal is None or refusal.code != OTHER_LIFE:
            return False
        if len(self._lives) >= _LIVES_MAX:
            self._lives.clear()
        self._lives[url] = refusal.life
        return True

    def _read[T](
        self, at: str, url: str, head: Head, status: int, headers: Sequence[tuple[bytes, bytes]],
        said: bytes, kind: type[T],
    ) -> T:  # fmt: skip
        if not self._signer.answered(head, status, said, _mac(headers)):
            refusal = _refusal(said)
            if refusal is not None and refusal.code == WRONG_KEY:
                raise NodeRefused(at, WRONG_KEY, "it has another master key than this node")
            if refusal is not None:
                raise NodeRefused(at, refusal.code, refusal.detail)
            raise NodeSilent(
                at, f"did not sign what came from {url} (status {status}): it is none of these nodes"
            )
        if status != HTTPStatus.OK:
            refusal = _refusal(said) or Refusal(FAILED, f"status {status}")
            raise NodeRefused(at, refusal.code, refusal.detail)
        try:
            return msgspec.msgpack.decode(said, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise NodeRefused(at, FAILED, f"its answer has another form: {error}") from None

    async def _posted(
        self, url: str, head: Head, body: bytes
    ) -> tuple[int, Sequence[tuple[bytes, bytes]], bytes]:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no URL")
        secure = parts.scheme == "https"
        if secure and self._tls is None:
            self._tls = ssl.create_default_context()
        reader, writer = await asyncio.open_connection(
            parts.hostname, parts.port or (443 if secure else 80), ssl=self._tls if secure else None
        )
        try:
            wire = h11.Connection(h11.CLIENT)
            given = [
                ("host", parts.netloc), ("content-length", str(len(body))), ("connection", "close"),
                ("content-type", _TYPE), (request_signing.HEADER, self._signer.header(head)),
            ]  # fmt: skip
            target = parts.path.rstrip("/") + request_signing.NODES_PATH + head.name
            request = h11.Request(method="POST", target=target, headers=given)
            if writer.is_closing():  # some event loops raise RuntimeError for a write to it
                raise ConnectionResetError("the connection was reset")
            writer.write(wire.send(request) + wire.send(h11.Data(data=body)) + wire.send(h11.EndOfMessage()))
            return await _answer(reader, wire)
        finally:
            writer.transport.abort()


async def _answer(
    reader: asyncio.StreamReader, wire: h11.Connection
) -> tuple[int, Sequence[tuple[bytes, bytes]], bytes]:
    status, headers, body = 0, [], bytearray()
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            wire.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Response):
            status, headers = event.status_code, list(event.headers)
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > ANSWER_BYTES_MAX:
                raise ConnectionError(f"its answer has more than {ANSWER_BYTES_MAX} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return status, headers, bytes(body)
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionError("it closed the connection")


def _mac(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The signature of an answer, "" if it has none."""
    return next((value for known, value in headers if known == request_signing.MAC.encode()), b"").decode(
        "latin-1"
    )


def _refusal(said: bytes) -> Refusal | None:
    try:
        return msgspec.msgpack.decode(said, type=Refusal)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


LIVES_S = 10.0
"""A node that said something within this time is asked."""


class Said[T](msgspec.Struct, frozen=True):
    """What became of a question to all: the answers by node, and who gave none, and why."""

    answers: dict[str, T]
    silent: dict[str, NodeError]


class Peers:
    """The other nodes, as a part of this one asks them: one by its name, or all at once.

    `members` are all nodes; `silent_s` says for how long one has said nothing.
    """

    def __init__(
        self,
        asker: Asker,
        door: NodesDoor,
        *,
        members: Callable[[], Mapping[str, Member]],
        silent_s: Callable[[str], float],
    ) -> None:
        self.node = asker.node
        self._asker = asker
        self._door = door
        self._members = members
        self._silent_s = silent_s

    def on[T](self, name: str, kind: type[T], handler: Callable[[str, T], Awaitable[object]]) -> None:
        """See `NodesDoor.on`."""
        self._door.on(name, kind, handler)

    def living(self, within_s: float = LIVES_S) -> list[str]:
        """The other nodes that were heard of lately."""
        return sorted(
            node
            for node, member in self._members().items()
            if node != self.node and not member.stopped and self._silent_s(node) < within_s
        )

    async def ask[T](
        self, node: str, name: str, asked: object, kind: type[T], *, timeout_s: float = TIMEOUT_S
    ) -> T:
        """The answer of one node. Raises NodeSilent, NodeRefused."""
        member = self._members().get(node)
        if member is None or not member.url:
            raise NodeBegins(node)
        return await self._asker.ask(member.url, node, name, asked, kind, timeout_s=timeout_s)

    async def ask_all[T](
        self, name: str, asked: object, kind: type[T], *, timeout_s: float = TIMEOUT_S
    ) -> Said[T]:
        """Ask all other living nodes at once. Never raises NodeError: who did not answer is part of it."""
        nodes = self.living()
        found = await asyncio.gather(
            *(self.ask(node, name, asked, kind, timeout_s=timeout_s) for node in nodes),
            return_exceptions=True,
        )
        said: Said[T] = Said({}, {})
        for node, one in zip(nodes, found, strict=True):
            if isinstance(one, NodeError):
                said.silent[node] = one
            elif isinstance(one, BaseException):
                raise one
            else:
                said.answers[node] = one
        return said
