"""When a heartbeat is due, and when the connection counts as dead. Pure."""

from typing import Final

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
