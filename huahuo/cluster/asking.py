"""Requests to other nodes, signed by the cluster's secret: the other side of `door`.

    asker = Asker(secret=…, node="web-1", log_id=log.log_id, ambient=ambient)
    found = await asker.ask(url, "web-2", "where", Where(user=42), Found)

One connection for each request. It is verified that the answer is of a node that has the secret, and for this
request. A request names the process that it is for. One that is not known yet says which it is, and is asked
a second time: so what was signed for one process is of no use for the next one.
"""

import asyncio
import itertools
import ssl
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import h11
import msgspec

from huahuo.cluster import errors, signing
from huahuo.cluster.door import Refusal
from huahuo.cluster.errors import NodeRefused, NodeSilent
from huahuo.cluster.signing import Head, Signer
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.deadline import Deadline

TIMEOUT_S: Final = 5.0
ANSWER_BYTES_MAX: Final = 8 << 20
_LIVES_MAX: Final = 1000
_READ_BYTES: Final = 256 << 10


class Asker:
    """See the module. `node`: the name of this one."""

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
            name, self.node, node, self._lives.get(url, ""), self._log_id, self._ambient.now_ms(),
            f"{self._process}.{next(self._numbers)}", signing.digest_of(body),
        )  # fmt: skip

    def _is_another_life(
        self, url: str, head: Head, status: int, headers: Sequence[tuple[bytes, bytes]], said: bytes
    ) -> bool:
        """Whether the request was refused because another process is there now. It is noted."""
        if status != HTTPStatus.CONFLICT or not self._signer.answered(head.once, status, said, _mac(headers)):
            return False
        refusal = _refusal(said)
        if refusal is None or refusal.code != errors.OTHER_LIFE:
            return False
        if len(self._lives) >= _LIVES_MAX:
            self._lives.clear()
        self._lives[url] = refusal.life
        return True

    def _read[T](
        self, at: str, url: str, head: Head, status: int, headers: Sequence[tuple[bytes, bytes]],
        said: bytes, kind: type[T],
    ) -> T:  # fmt: skip
        if not self._signer.answered(head.once, status, said, _mac(headers)):
            refusal = _refusal(said)
            if refusal is not None and refusal.code == errors.WRONG_KEY:
                raise NodeRefused(at, errors.WRONG_KEY, "it has another master key than this node")
            if refusal is not None:
                raise NodeRefused(at, refusal.code, refusal.detail)
            raise NodeSilent(
                at, f"did not sign what came from {url} (status {status}): it is none of these nodes"
            )
        if status != HTTPStatus.OK:
            refusal = _refusal(said) or Refusal(errors.FAILED, f"status {status}")
            raise NodeRefused(at, refusal.code, refusal.detail, refusal.now_ms)
        try:
            return msgspec.msgpack.decode(said, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise NodeRefused(at, errors.FAILED, f"its answer has another form: {error}") from None

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
                ("content-type", "application/x-msgpack"), *self._signer.headers(head),
            ]  # fmt: skip
            target = parts.path.rstrip("/") + signing.PATH + head.name
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
    return next((value for known, value in headers if known == signing.MAC.encode()), b"").decode("latin-1")


def _refusal(said: bytes) -> Refusal | None:
    try:
        return msgspec.msgpack.decode(said, type=Refusal)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
