"""The revoked tokens, folded from the events of the stream `auth`.

`Revocations` is the pure fold. `RevocationWatch` keeps it at the head of the log and reports new revocations,
so that sockets can be closed. It is told of each commit; `catch_up` covers a missed signal.
"""

from collections.abc import Callable

import msgspec

from huahuo.actors.plugins.calls import UserId, user_id_of
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.port import Log
from huahuo.replay.ledger import Ledger

AUTH_STREAM = "auth"
REVOKED = "revoked"


class Revoked(msgspec.Struct, frozen=True):
    """One revocation: of a user's tokens issued up to `at_ms`, or of one token by its `jti`."""

    at_ms: int
    user_id: UserId | None = None
    jti: str = ""

    def covers(self, user_id: UserId, jti: str, iat_ms: int | None) -> bool:
        """Whether this revocation ends a token. A token without `iat` cannot prove that it is newer."""
        if self.jti:
            return jti == self.jti
        return user_id == self.user_id and (iat_ms is None or iat_ms <= self.at_ms)


class _Body(msgspec.Struct):
    user_id: UserId | None = None
    jti: str = ""
    is_gone: bool = False
    """Whether the token is known no more in any case, as an API key that was revoked."""


class _Ended(msgspec.Struct, frozen=True):
    """Until when a user's tokens have ended, and how many revocations were folded in before that one."""

    at_ms: int
    count: int


class Revocations:
    """All revocations so far: the last one of each user, and the ids of single tokens.

    Both grow only when an administrator revokes, or by one number when a user ends all its sessions, so they
    need no bound. A user's own API keys that were revoked are not kept: nobody knows such a key any more.
    """

    def __init__(self) -> None:
        self._users: dict[UserId, _Ended] = {}
        self._tokens: set[str] = set()
        self.count = 0
        """How many were folded in."""

    def __len__(self) -> int:
        """How many users and tokens it knows."""
        return len(self._users) + len(self._tokens)

    def apply(self, event: StoredEvent) -> Revoked | None:
        """Fold in one event of the stream `auth`; returns its revocation, if it is one.

        What is issued after a revocation may be a moment newer than it (`Authenticator.issue_ms`), so the
        user's next one is newer, too, though the nodes' common time may have stood still meanwhile.
        """
        if event.type != REVOKED:
            return None
        body = msgspec.json.decode(event.body, type=_Body)
        if body.jti and not body.is_gone:
            self._tokens.add(body.jti)
        user_id, at_ms = user_id_of(body.user_id), event.ts_ms
        if not body.jti and user_id is not None:
            at_ms = max(at_ms, self.ended_ms(user_id) + 1)
            self._users[user_id] = _Ended(at_ms, self.count)
        self.count += 1
        return Revoked(at_ms=at_ms, user_id=user_id, jti=body.jti)

    def ended_ms(self, user_id: UserId) -> int:
        """The user's tokens up to this time have ended; 0 if none was."""
        ended = self._users.get(user_id)
        return 0 if ended is None else ended.at_ms

    def has_ended(self, user_id: UserId, since: int) -> bool:
        """Whether the user's tokens were ended since `count` was so much."""
        ended = self._users.get(user_id)
        return ended is not None and ended.count >= since

    def covers(self, user_id: UserId, jti: str, iat_ms: int | None) -> bool:
        """Whether a token is revoked."""
        if jti and jti in self._tokens:
            return True
        ended = self._users.get(user_id)
        return ended is not None and (iat_ms is None or iat_ms <= ended.at_ms)


class RevocationWatch(Ledger[Revocations]):
    """Keeps `Revocations` at the head of the stream `auth`, and calls `on_revoked` for each new one.

    Its start must end before the first token is verified.
    """

    def __init__(self, log: Log, revocations: Revocations, on_revoked: Callable[[Revoked], None]) -> None:
        super().__init__(log, AUTH_STREAM, revocations)
        self._on_revoked = on_revoked

    def _apply(self, event: StoredEvent) -> None:
        revoked = self.state.apply(event)
        if revoked is not None:
            self._on_revoked(revoked)
