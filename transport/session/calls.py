"""Calls made from messages, and their replies as frames (PROTOCOL 6, 7). Pure.

A call has its principal, id, key and checked fields. A reply is compressed where it may be, and refused
where it is too long.
"""

from collections.abc import Mapping
from typing import Any

from huahuo.actors.plugins.actions import NOT_KNOWN, Action
from huahuo.actors.plugins.calls import Call, Principal, Refusal, Reply, error_reply
from huahuo.eventstore.model import CommandKey
from huahuo.transport.access.rights import could_call
from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.frames import Framer, text_frame
from huahuo.transport.protocol.incoming import Invalid, Parsed
from huahuo.transport.protocol.kinds import ONLY, Part
from huahuo.transport.session.interface import Execute, Record
from huahuo.transport.session.outgoing import Speech
from huahuo.transport.words import zh


class Calls:
    """The calls of one session. Numbers calls without an id and counts calls without an answer."""

    __slots__ = (
        "_classic",
        "_fresh_hash",
        "_made",
        "_named",
        "_session",
        "_unknown",
        "outstanding",
        "specs",
    )

    def __init__(
        self, session: str, specs: Mapping[str, Action], fingerprint_key: bytes, *, classic: bool = False
    ) -> None:
        self._session = session
        # It does not repeat the action: what a client sent by mistake may be a secret.
        self._classic = classic
        self._unknown = zh.UNKNOWN_ACTION if classic else zh.NO_SUCH_ACTION
        self.specs = specs
        """By action."""
        self._fresh_hash = incoming.keyed(fingerprint_key)
        self._named: tuple[Principal, str] | None = None
        self._made = 0
        self.outstanding = 0

    def make(self, parsed: Parsed, principal: Principal, client: str) -> Execute | Record | Invalid:
        """The output for a message, whose fields it takes over. It counts as outstanding unless `Invalid`.

        If a command with an id has invalid fields, its refusal is recorded like any other final answer: the
        same id gets the same refusal, and it cannot be used for another command.
        """
        spec = self.specs.get(parsed.action)
        if spec is None:
            may_ask = parsed.id is not None and parsed.action and could_call(principal, parsed.action)
            if not may_ask or self._classic:
                return Invalid(ErrorCode.UNKNOWN_ACTION, self._unknown, id=parsed.id)
            spec = NOT_KNOWN
        fields = parsed.fields  # not copied: a copy for each reader was a tenth of a short command
        fields.pop("id", None)
        key, fingerprint = None, b""
        if parsed.id is not None and not spec.query:
            key = CommandKey(self._name_of(principal), client or self._session, parsed.id)
            fingerprint = incoming.fingerprint_without_id(fields, self._fresh_hash)
        fields.pop("action", None)
        params: Any = fields if spec.params is dict else incoming.converted(fields, parsed.id, spec.params)
        refused = params.__class__ is Invalid
        if refused and key is None:
            invalid: Invalid = params
            return invalid
        self._made += 1
        self.outstanding += 1
        call: Call[Any] = Call(
            principal=principal,
            session=self._session,
            action=spec.action,
            params=None if refused else params,
            command_id=parsed.id or f"{self._session}#{self._made}",
            key=key,
            fingerprint=fingerprint,
        )
        if refused:
            refusal = Refusal(params.code, params.message, params.details)
            return Record(call, error_reply(refusal), parsed.id)
        return Execute(call, spec, parsed.id)

    def _name_of(self, principal: Principal) -> str:
        """Its name, which is made once for all commands of a token."""
        named = self._named
        if named is None or named[0] is not principal:
            named = self._named = (principal, principal.name)
        return named[1]


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
