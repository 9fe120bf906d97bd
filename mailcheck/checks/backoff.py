"""How long a watcher waits, and for what. Pure: chance is given as a number from 0 to 1.

How each mail server fares, as the watchers of its mailboxes see it. Pure.

A server that cannot be reached, or that limits us, is left alone for a while by all its watchers. Then one
of them tries, and the others follow if it succeeds. Other servers are not concerned.
"""

from collections import deque
from typing import Final

import msgspec

from huahuo.mailcheck.servers.faults import Outcome

SPREAD_S_MAX: Final = 40.0
"""After a restart every mailbox is looked at within this time, and what the looks take."""
_SPREAD_S_EACH: Final = 0.02
_AGAIN_S: Final = 2.0
_AGAIN_S_MAX: Final = 45.0
"""A server that is back is found within a minute."""
_LIMITED_S: Final = 60.0
_LIMITED_S_MAX: Final = 900.0
_HOPELESS_S: Final = 3_600.0
_DOUBLINGS_MAX: Final = 20
_OF_HOST_S: Final = 0.075
_OF_ALL_S: Final = 0.02
"""Connections that wait in IDLE are looked at so far apart for each mailbox of their server, and of all: on
average at most 17 looks a second at one server, and 63 in all."""
_SPREADS: Final = 0.4
"""How much sooner a look may come. After a restart all connections begin at nearly the same time."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """The settings: how long an IDLE may stand, and between two looks where there is none.

    `hold_s`: a watcher keeps its connection for this long before another one may have its place.
    """

    renew_s: float = 540.0
    poll_s: float = 60.0
    hold_s: float = 60.0


def spread_s(count: int, chance: float) -> float:
    """When a mailbox has its turn among `count` that would otherwise all come now."""
    return min(SPREAD_S_MAX, _SPREAD_S_EACH * count) * chance


def poll_s(pace: Pace, chance: float) -> float:
    """Until the next look: the setting, a quarter more or less."""
    return pace.poll_s * (0.75 + 0.5 * chance)


def renew_s(pace: Pace, there: int, watched: int, chance: float) -> float:
    """Until an IDLE is begun anew, with as many mailboxes watched at its server (`there`) and in all.

    As soon as a mailbox without IDLE is looked at: IDLE tells nothing of other folders, and some servers keep
    a mail of INBOX to themselves. With many mailboxes later, up to the setting. Up to two fifths less, so
    never more than an IDLE may stand.
    """
    wait_s = max(pace.poll_s, _OF_HOST_S * there, _OF_ALL_S * watched)
    return min(pace.renew_s, wait_s) * (1 - _SPREADS * chance)


def again_s(failures: int, chance: float) -> float:
    """The pause before the next try, after `failures` in turn."""
    return _doubled(_AGAIN_S, _AGAIN_S_MAX, failures) * (0.5 + 0.5 * chance)


def limited_s(failures: int, chance: float) -> float:
    """Until the next try at a host that limits us."""
    return _doubled(_LIMITED_S, _LIMITED_S_MAX, failures) * (0.5 + 0.5 * chance)


def hopeless_s(chance: float) -> float:
    """Until the next try where only a change of settings helps, here or there."""
    return _HOPELESS_S * (0.75 + 0.5 * chance)


def _doubled(first_s: float, most_s: float, failures: int) -> float:
    return min(most_s, first_s * float(1 << min(max(failures - 1, 0), _DOUBLINGS_MAX)))


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
