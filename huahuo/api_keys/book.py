"""The API keys in the log: made, revoked, and read as the log grows. A thin shell.

It works over the log of a running service, and over one that a command has opened.
"""

from collections.abc import Callable, Sequence

from huahuo.actors.plugins.principal import Principal, UserId
from huahuo.api_keys import keys
from huahuo.api_keys.keys import API_KEYS, KEYS_PER_USER_MAX, Key, KeyRefused, Keys
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.model import Append, CommandRecord, Duplicate
from huahuo.eventstore.port import Log
from huahuo.ledger import Ledger
from huahuo.transport.access.common_time import Latest, own_clock


class KeyBook(Ledger[Keys]):
    """See the module."""

    def __init__(
        self,
        log: Log,
        ambient: Ambient,
        issue_ms: Callable[[UserId, int], int] = lambda _user, now_ms: now_ms,
        latest_ms: Latest = own_clock,
    ) -> None:
        """`issue_ms(user, now_ms)`: the time of issue of a key made at `now_ms` of this machine's clock.

        `latest_ms`: from when a key's days count. The time of issue may be far behind or ahead of it.
        """
        super().__init__(log, API_KEYS, Keys())
        self._ambient = ambient
        self._issue_ms = issue_ms
        self._latest_ms = latest_ms

    async def add(
        self,
        owner: Principal,
        name: str,
        rights: Sequence[str],
        days: int,
        *,
        by: str,
        record: CommandRecord | None = None,
    ) -> tuple[Key, str] | Duplicate:
        """Make a key for `owner`, whose rights were judged. Its text is nowhere else.

        `record`: the answer to a repeat of the command, which must not hold the key.

        Raises:
            KeyRefused: a field is out of bounds, or the user has as many keys as one may have.
        """
        keys.refuse_key(name, days, rights)
        secret, made = self._ambient.token_bytes(keys.SECRET_BYTES), ""
        key: Key | None = None

        def change(state: Keys) -> Append:
            nonlocal key, made
            clock_ms = self._ambient.now_ms()
            now_ms, issue_ms = self._latest_ms(clock_ms), self._issue_ms(owner.user_id, clock_ms)
            if state.live(owner.user_id, now_ms) >= KEYS_PER_USER_MAX:
                why = f"a user may have {KEYS_PER_USER_MAX} keys: revoke one first"
                raise KeyRefused("rate_limited", why)
            number = self._log.take("api_key")
            made = keys.text_of(number, secret)
            key = Key(
                key_id=number,
                user_id=owner.user_id,
                username=owner.username,
                is_admin=owner.is_admin,
                groups=owner.groups,
                name=name,
                rights=tuple(dict.fromkeys(rights)),
                created_at_ms=issue_ms,
                expires_at_ms=keys.expiry(now_ms, days),
                digest=keys.digest_of(made),
            )
            expected = {API_KEYS: state.seq}
            return Append(
                ts_ms=issue_ms,
                events=(keys.added(issue_ms, key),),
                expected=expected,
                principal=by,
                command=record,
            )

        written = await self.change(change)
        if isinstance(written, Duplicate):
            return written
        assert key is not None, "it was appended"
        return key, made

    async def revoke(self, key_id: int, *, by: str, only: UserId | None = None) -> None:
        """End a key and its connections. `only`: the user whose key it must be.

        Raises KeyRefused: there is no such key.
        """

        def change(state: Keys) -> Append:
            key = state.of(key_id)
            if key is None or only not in (None, key.user_id):
                raise KeyRefused("not_found", f"there is no key {key_id}")
            now_ms = self._ambient.now_ms()
            expected = {API_KEYS: state.seq}
            return Append(ts_ms=now_ms, events=keys.revoked(now_ms, key), expected=expected, principal=by)

        await self.change(change)
