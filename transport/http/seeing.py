"""What clients have processed: `POST /acks` says it, `GET /seen` asks (and waits) for it."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated

import msgspec

from huahuo.eventstore.deadline import Deadline
from huahuo.eventstore.errors import Corrupt, EventStoreError
from huahuo.eventstore.port import Log
from huahuo.transport.http import asked
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.messages import NO_CONTENT, Answer, json_answer
from huahuo.transport.http.problems import problem
from huahuo.transport.http.reading import Denied, Reading
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.incoming import ID_CHARS_MAX, Seq, StreamName
from huahuo.transport.server.wires import Wires
from huahuo.transport.words import http_zh, zh

type Acked = Callable[[str, str, int, str], asyncio.Future[None]]
"""`Hub.acked`."""


class _Acks(msgspec.Struct):
    cursors: Annotated[dict[StreamName, Seq], msgspec.Meta(max_length=256)]
    client: Annotated[str, msgspec.Meta(min_length=1, max_length=ID_CHARS_MAX)] = ""


_acks = msgspec.json.Decoder(_Acks)


class Seeing:
    """See the module."""

    def __init__(self, wires: Wires, log: Log, acked: Acked, reading: Reading) -> None:
        self._wires = wires
        self._log = log
        self._acked = acked
        self._reading = reading

    async def acks(self, visit: Visit, body: bytes) -> Answer:
        """Answer `POST /acks`: all cursors count, or none."""
        try:
            said = _acks.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return problem(ErrorCode.INVALID_FIELD, http_zh.FIELDS_WRONG.format(error))
        client = said.client or visit.request.header("huahuo-client") or ""
        if not 1 <= len(client) <= ID_CHARS_MAX:
            return problem(ErrorCode.INVALID_FIELD, http_zh.TEXT_NEEDED.format("client", ID_CHARS_MAX))
        for stream in said.cursors:
            try:
                await self._reading.check_right(visit, stream)
            except Denied as denied:
                return denied.answer()
        feed = self._wires.feed
        if feed.catch_up is not None and not await feed.catch_up(tuple(said.cursors.items())):
            return problem(ErrorCode.UNAVAILABLE, zh.NODE_BEHIND)
        for stream, seq in said.cursors.items():
            if seq > feed.head(stream).seq:
                return problem(ErrorCode.BAD_ACK, http_zh.NO_SUCH_EVENT.format(stream, seq))
        for stream, seq in said.cursors.items():
            self._wires.hub.note_ack(visit.principal.name, client, stream, seq)
        return NO_CONTENT

    async def seen(self, visit: Visit) -> Answer:
        """Answer `GET /seen?stream=&seq=&client=&wait=`: for administrators, and others about themselves."""
        query = visit.request.query
        stream, client = query.get("stream", ""), query.get("client", "")
        if not stream or not client:
            return problem(ErrorCode.INVALID_FIELD, http_zh.STREAM_AND_CLIENT)
        seq, wait_s = asked.seq_of(query), asked.wait_s_of(query)
        if not visit.principal.is_admin:
            try:
                await self._reading.check_right(visit, stream)
            except Denied as denied:
                return denied.answer()
        try:
            seen = await self._seen(visit, stream, client, seq, wait_s)
        except Corrupt:
            return problem(ErrorCode.CORRUPT, http_zh.ACK_DAMAGED)
        except EventStoreError:
            return problem(ErrorCode.UNAVAILABLE, http_zh.LOG_NOT_READ)
        said = {"type": "seen", "stream": stream, "client": client, "seq": seq, "seen": seen}
        return json_answer(msgspec.json.encode(said), status=HTTPStatus.OK)

    async def _seen(self, visit: Visit, stream: str, client: str, seq: int, wait_s: float) -> bool:
        only = "" if visit.principal.is_admin else visit.principal.name
        acked = self._acked(client, stream, seq, only)
        if acked.done():  # at a deadline of 0 s the wait below would end before it saw that
            return True
        try:
            for ack in await self._log.acks(only or None, client=client, stream=stream):
                if ack.seq >= seq:
                    return True
            async with Deadline(self._wires.ambient, wait_s):
                await asyncio.wait({acked})
                return not acked.cancelled()
        except TimeoutError:
            return acked.done() and not acked.cancelled()
        finally:
            acked.cancel()
