"""Whether and when the Python client reconnects after a connection ended (PROTOCOL 10). Pure."""

from collections.abc import Callable

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
