"""How each mail server fares, as the watchers of its mailboxes see it. Pure.

A server that cannot be reached, or that limits us, is left alone for a while by all its watchers. Then one of
them tries, and the others follow if it succeeds. Other servers are not concerned.
"""

from collections import deque
from typing import Final

from huahuo.mailcheck.imap.outcome import Outcome
from huahuo.mailcheck.watching.pace import again_s, limited_s

_LIMITED: Final = "throttled"
LIMITS: Final = frozenset({_LIMITED, "http_throttled"})
"""Kinds after which a mailbox waits longer: the server's limit, and that of a token endpoint or Graph."""
_DOWN: Final = frozenset({"dns", "connect", "tls", "bye", "proxy"})
"""Kinds of failures that say something about the server and nothing about one of its mailboxes."""
_ELSEWHERE: Final = frozenset(
    {"http_away", "http_certificate", "http_tls", "http_protocol", "http_down", "http_throttled"}
)
"""Kinds that say something about a token endpoint or Graph, and nothing about the server."""
TOLD_FROM: Final = 2
"""Users are told from this failure in turn on. Most servers restart faster than that."""


class Host:
    """One server. `running`: looks under way; `watched`: all mailboxes."""

    __slots__ = (
        "_queue", "_with_news", "backoffs", "failures", "outcome", "running", "tries", "until_s", "watched",
    )  # fmt: skip

    def __init__(self) -> None:
        self._queue: deque[int] = deque()
        self._with_news: deque[int] = deque()
        self.running = 0
        self.watched = 0
        self.failures = 0
        self.backoffs = 0
        self.until_s = 0.0
        self.outcome: Outcome | None = None
        self.tries = False

    @property
    def waits(self) -> bool:
        """Whether the turn of a mailbox has come."""
        return bool(self._with_news or self._queue)

    def append(self, email_id: int, *, news: bool) -> None:
        """A mailbox's turn has come. `news`: its server told of something, so it is before all without."""
        (self._with_news if news else self._queue).append(email_id)

    def popleft(self) -> int:
        """The next mailbox. There must be one."""
        return (self._with_news or self._queue).popleft()

    def closed(self, now_s: float) -> bool:
        """Whether it is left alone now. While one mailbox tries, the others wait for what comes of it."""
        return self.failures > 0 and (now_s < self.until_s or self.tries)

    def begin(self) -> None:
        """A mailbox begins a look."""
        self.tries = self.failures > 0

    def answered(self) -> None:
        """The server let a mailbox in, or refused this one mailbox."""
        self.failures, self.outcome, self.tries = 0, None, False

    def failed(self, outcome: Outcome, now_s: float, chance: float) -> bool:
        """A look failed. True: the fault is the server's, and it is left alone until `until_s`."""
        if outcome.kind in _ELSEWHERE:
            self.tries = False
            return False
        if outcome.kind not in _DOWN and outcome.kind != _LIMITED:
            self.answered()
            return False
        self.tries = False
        if self.failures and now_s < self.until_s:
            return True  # others had begun when the first of them failed
        self.failures += 1
        self.backoffs += 1
        self.outcome = outcome
        wait_s = limited_s if outcome.kind == _LIMITED else again_s
        self.until_s = now_s + wait_s(self.failures, chance)
        return True
