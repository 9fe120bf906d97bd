"""What workers and nodes say to each other, and acks as sockets bring them. See `targets`."""

import asyncio
import socket
from functools import cache
from hashlib import sha256
from types import SimpleNamespace
from typing import Any, Final

import h11
import msgspec

from huahuo.cluster import node_requests
from huahuo.cluster.node_requests import Asker, NodeRefused, NodesDoor, NodeSilent
from huahuo.cluster.request_signing import Head, Signer
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.transport import native
from huahuo.transport.access.rights import Verified
from huahuo.transport.http.messages import Request
from huahuo.transport.protocol import incoming
from huahuo.transport.wire.frame_reader import as_frames, short_text, texts_in
from huahuo.transport.workers import channel as workers
from huahuo.transport.workers.channel import Pipe
from tests.support.fuzz.looped import done

_PIECES_MAX: Final = 8


# Acks ----------------------------------------------------------------------------------------------------

_FRONT: Final = b'{"action":"ack","cursors":{"user/1":'
ACKS: Final = (
    as_frames([_FRONT + b"7}}", _FRONT + b"18}}"]),
    as_frames([_FRONT + b"999999999999999}}"]) * 4,
    as_frames([_FRONT + b"07}}"]) + b"\x89\x80\0\0\0\0",
)
_IN_C: Final = native.found()
_READ_BYTES_MAX: Final = 512
_ACKS_A_READ_MAX: Final = 4


def acks(data: bytes) -> None:
    """An ack that is read by its number alone, here or in C, is what the long way reads."""
    texts, end, _ = texts_in(data)
    seqs = [incoming.seq_of_ack(text, _FRONT) for text in texts]
    for text, seq in zip(texts, seqs, strict=True):
        assert seq < 0 or incoming.plain_ack(text) == {"user/1": seq}, text
    if _IN_C is None or not data:
        return
    data = data[:_READ_BYTES_MAX]
    if end > len(data):
        return
    came = _read_in_c(_IN_C, data)
    short = all(short_text(as_frames([text])) for text in texts)
    if end == len(data) and short and min(seqs) >= 0 and len(seqs) <= _ACKS_A_READ_MAX:
        assert came == seqs
    else:
        assert came == [data], came


def _read_in_c(module: native.Native, data: bytes) -> list[int | bytes]:
    reader, ours, peer = _sockets(module)
    module.watch_acks(reader, 0, ours.fileno(), _FRONT)
    try:
        peer.sendall(data)
        return [what for _, what in module.read_acks(reader)]
    finally:
        module.watch_acks(reader, 0)


@cache
def _sockets(module: native.Native) -> tuple[object, socket.socket, socket.socket]:
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    return module.open_acks()[0], ours, peer


# Workers -------------------------------------------------------------------------------------------------


def _framed(*messages: object) -> bytes:
    encoded = [workers.encode(message) for message in messages]
    return b"".join(len(one).to_bytes(4) + one for one in encoded)


_COLUMNS: Final = ([1], ["s"], [1], "t", [b"{}"], 1, [0], "", "", "", 0, "", [b"c"])
PIPES: Final = (
    _framed(workers.Ready(), workers.Left("127.0.0.1"), workers.Verify(1, "t"), workers.Beat()),
    _framed(workers.Commit(_COLUMNS), workers.Told(3, b"{}"), workers.Failed(4, "Busy", "x")),
)


def pipes(data: bytes) -> None:
    """What a worker and its owner say, in pieces: messages of theirs, or the end of the pipe."""
    for decoder in (workers.FROM_OWNER, workers.FROM_WORKER):
        got: list[object] = []
        lost: list[bool] = []
        pipe = Pipe(decoder, got.append, lambda lost=lost: lost.append(True))  # type: ignore[misc]
        step = max(1, len(data) // _PIECES_MAX)
        for at in range(0, len(data), step):
            if pipe.is_open:
                pipe.data_received(data[at : at + step])
        assert len(lost) == (not pipe.is_open)
        size = sum(4 + len(workers.encode(message)) for message in got)
        assert lost or size <= len(data) or not got
        for message in got:
            repr(message)


# Nodes ---------------------------------------------------------------------------------------------------


class _Question(msgspec.Struct):
    text: str
    number: int = 0


class _Reply(msgspec.Struct):
    said: str


_SECRET, _LOG = b"s" * 32, "log-1"
_signer: Final = Signer(_SECRET)
NODES: Final = (
    b"double\na\nb\n\n" + msgspec.msgpack.encode(_Question("x")),
    b"double\nweb-1\n\n0123456789abcdef\n" + msgspec.msgpack.encode({"text": "x", "number": 2}),
)


def nodes(data: bytes) -> None:
    """A request of a node is answered if it is signed, and by nobody else's words."""
    name, node, to, life, *rest = [*data.split(b"\n", 4), b"", b"", b"", b"", b""][:5]
    body = b"".join(rest)
    ambient = FakeAmbient()
    door = NodesDoor(secret=_SECRET, node="b", log_id=_LOG, ambient=ambient)
    door.on("double", _Question, _said)
    texts = [one.decode("latin-1") for one in (name, node, to, life)]
    head = Head(
        texts[0], texts[1], texts[2], texts[3] or door.life, _LOG, ambient.now_ms(),
        f"{'0' * 16}.1", sha256(body).hexdigest(),
    )  # fmt: skip
    signed = _signer.headers(head)
    stranger = [(known, value if known != "huahuo-mac" else "0" * 64) for known, value in signed]
    assert not isinstance(door.admit(_asked(stranger), texts[0], "1.2.3.4"), Verified)
    request = _asked(signed)
    admitted = door.admit(request, texts[0], "1.2.3.4")
    if not isinstance(admitted, Verified):
        return
    visit: Any = SimpleNamespace(request=request, route=SimpleNamespace(name=texts[0]))
    answer = done(door.answer(visit, body))
    assert answer.status != 500, "what another node asks is refused, and not a fault of this one"


async def _said(_node: str, asked: _Question) -> object:
    return _Reply(asked.text * 2)


def _asked(headers: Any) -> Request:
    return Request("POST", "/nodes/x", {}, tuple(headers))


ANSWERS_OF_NODES: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\nhuahuo-mac: 00\r\n\r\n"
    + msgspec.msgpack.encode(_Reply("xyz")),
    b"HTTP/1.1 409 Conflict\r\ntransfer-encoding: chunked\r\n\r\n2\r\n\x80\x80\r\n0\r\n\r\n",
)


def answers_of_nodes(data: bytes) -> None:
    """What comes back from where a node should be. Raises OSError, h11's errors, NodeSilent, NodeRefused."""
    asker = Asker(secret=_SECRET, node="a", log_id=_LOG, ambient=FakeAmbient())
    head = asker._head("http://b", "b", "double", b"")  # noqa: SLF001  a stranger gets no further
    status, headers, said = done(_answered(data))
    signed = (b"huahuo-mac", _signer.answer(head.once, status, said).encode())
    for given in (headers, [signed]):
        try:
            asker._read("b", "http://b", head, status, given, said, _Reply)  # noqa: SLF001
        except (NodeRefused, NodeSilent):
            continue
        assert given == [signed], "an answer that no node has signed is taken for one"


async def _answered(data: bytes) -> Any:
    reader, wire = asyncio.StreamReader(), h11.Connection(h11.CLIENT)
    wire.send(h11.Request(method="GET", target="/", headers=[("host", "b")]))
    wire.send(h11.EndOfMessage())
    reader.feed_data(data)
    reader.feed_eof()
    return await node_requests._answer(reader, wire)  # noqa: SLF001
