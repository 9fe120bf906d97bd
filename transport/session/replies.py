"""Replies as frames: compressed where they may be, refused where they are too long (PROTOCOL 6, 7). Pure."""

from huahuo.actors.plugins.calls import Reply
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.frames import Framer, text_frame
from huahuo.transport.protocol.parts import ONLY, Part
from huahuo.transport.session.outputs import Execute, Record
from huahuo.transport.session.speech import Speech
from huahuo.transport.words import zh

LONG_BYTES = 32 << 10
"""Compressing this much takes 0.1 ms. Longer messages are compressed on another thread."""


class Replies:
    """Those of one connection. `compression` None: it takes text frames only."""

    __slots__ = ("_bytes_max", "_compression", "_speech")

    def __init__(self, compression: Framer | None, bytes_max: int, speech: Speech) -> None:
        self._speech = speech
        self._compression = compression
        self._bytes_max = bytes_max

    def long(self, asked: Execute | Record, reply: Reply, part: Part = ONLY) -> bytes | None:
        """The message of a long reply to compress on another thread. None: `framed` does everything."""
        if self._compression is None or not _compressible(asked) or len(reply.body) <= LONG_BYTES:
            return None
        said = self._speech.reply(reply, asked.request_id, part)
        return said if len(said) <= self._bytes_max else None

    def framed(self, asked: Execute | Record, reply: Reply, part: Part) -> bytes:
        """The frame of a part of the answer to a call. An empty body was too long."""
        said = self._speech.reply(reply, asked.request_id, part) if reply.body else b""
        if not said or len(said) > self._bytes_max:
            return self._speech.error(ErrorCode.TOO_LARGE, zh.REPLY_TOO_LARGE, request_id=asked.request_id)
        if self._compression is not None and _compressible(asked):
            return self._compression.frame(said)
        return text_frame(said)


def _compressible(asked: Execute | Record) -> bool:
    return isinstance(asked, Execute) and asked.spec.compressible
