"""Makes a call from a message: its principal, id, key and checked fields (PROTOCOL 6). Pure."""

from collections.abc import Mapping
from typing import Any

from huahuo.actors.plugins.actions import NOT_KNOWN, Action
from huahuo.actors.plugins.calls import Call, Refusal, error_reply
from huahuo.actors.plugins.principal import Principal
from huahuo.eventstore.model import CommandKey
from huahuo.transport.access.rights import could_call
from huahuo.transport.protocol import fingerprints, incoming
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.incoming import Invalid, Parsed
from huahuo.transport.session.outputs import Execute, Record
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
        self._fresh_hash = fingerprints.keyed(fingerprint_key)
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
            fingerprint = fingerprints.fingerprint_without_id(fields, self._fresh_hash)
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
