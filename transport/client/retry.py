"""When a connection counts as dead, and when the client reconnects (PROTOCOL 10). Pure.

`Liveness` says when a heartbeat is due.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from huahuo.transport.protocol.codes import AUTH_CLOSES, CLOSES, AuthCode, CloseCode, Rule, rule_of

STABLE_S = 5.0
"""A connection that lasted this long resets the back-off."""

SLOWLY_S = 30.0
"""The least delay for codes of the rule `reconnect_slowly`."""


class Verdict(msgspec.Struct, frozen=True):
    """The decision: an attempt in `delay_s`, with a new token or the old one, or the end (`stop`)."""

    stop: bool
    code: int
    why: str
    delay_s: float = 0.0
    new_token: bool = False


class Retry:
    """Full-jitter back-off: a random delay from 0 to `first_s` · 2ⁿ, at most `max_s`.

    Args:
        chance: returns random numbers in [0, 1).
        renewable: whether a new token can be got. If not, the client stops when its token expires.
    """

    def __init__(
        self,
        chance: Callable[[], float],
        *,
        first_s: float = 0.5,
        max_s: float = 20.0,
        renewable: bool = False,
    ) -> None:
        self._chance = chance
        self._first_s = first_s
        self._max_s = max_s
        self._renewable = renewable
        self._attempts = 0
        self._online_at: float | None = None

    def delay_s(self, attempt: int) -> float:
        """The delay before attempt number `attempt` + 1."""
        return self._chance() * min(self._max_s, self._first_s * 2.0 ** min(attempt, 30))

    def online(self, now: float) -> None:
        """The connection is authenticated."""
        self._online_at = now

    def closed(
        self, code: int | None, now: float, retry_s: tuple[float, float] | None, failure: str
    ) -> Verdict:
        """The decision after a connection ended with `code` (None: lost, or never made).

        `retry_s` is the range that the server asked for, `failure` the code of a refused authentication.
        """
        if failure in set(AuthCode):
            code = AUTH_CLOSES[AuthCode(failure)]
        code = CloseCode.LOST if code is None else code
        rule = rule_of(code)
        known = code in CLOSES
        why = CLOSES[CloseCode(code)].when if known else "The server closed the connection."
        if rule is Rule.STOP or (rule is Rule.NEW_TOKEN and not self._renewable):
            return Verdict(stop=True, code=code, why=why)
        if self._online_at is not None and now - self._online_at >= STABLE_S:
            self._attempts = 0
        self._online_at = None
        delay_s = self.delay_s(self._attempts)
        if retry_s is not None and self._attempts == 0:
            low, high = retry_s
            delay_s = low + self._chance() * max(0.0, high - low)
        if rule is Rule.RECONNECT_SLOWLY:
            delay_s = max(delay_s, SLOWLY_S * (1 + self._chance()))
        self._attempts += 1
        return Verdict(stop=False, code=code, why=why, delay_s=delay_s, new_token=rule is Rule.NEW_TOKEN)


ANSWER_WITHIN_S: Final = 10.0
"""The time limit for the answer to a heartbeat, and for the close after a `goaway`."""
AUTHENTICATED_WITHIN_S: Final = 20.0
"""The time limit for authentication. The server may delay the answer by 10 s (PROTOCOL 3.1)."""


class Liveness:
    """One timer: something is expected by `_dead_at`, or else a heartbeat is due after a silence."""

    def __init__(self) -> None:
        self.dead = False
        self._silence_s = 15.0
        self._heard_at = 0.0
        self._dead_at: float | None = None

    def connected(self, now: float) -> None:
        """A socket is open: authentication is expected."""
        self.dead, self._heard_at, self._dead_at = False, now, now + AUTHENTICATED_WITHIN_S

    def online(self, heartbeat_s: float) -> None:
        """The token was accepted."""
        self._dead_at, self._silence_s = None, heartbeat_s / 2

    def heard(self, now: float, *, is_answer: bool) -> None:
        """A message came. `is_answer`: it ends what was expected."""
        self._heard_at = now
        if is_answer:
            self._dead_at = None

    def expect_end(self, now: float) -> None:
        """The server is about to close the connection."""
        self._dead_at = now + ANSWER_WITHIN_S

    def closed(self) -> None:
        """The socket is gone."""
        self.dead, self._dead_at = False, None

    def deadline(self, *, online: bool) -> float | None:
        """When `tick` must be called."""
        if self._dead_at is not None:
            return self._dead_at
        return self._heard_at + self._silence_s if online else None

    def tick(self, now: float, *, online: bool) -> bool:
        """Do what is due. Returns whether to send a heartbeat."""
        if self._dead_at is not None:
            if self._dead_at <= now:
                self.dead, self._dead_at = True, None
            return False
        if online and self._heard_at + self._silence_s <= now:
            self._dead_at = now + ANSWER_WITHIN_S
            return True
        return False
