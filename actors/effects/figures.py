"""What can be seen of effects from outside: how many are open, run and wait, and how they ended."""

from collections import Counter
from collections.abc import Collection, Mapping

from huahuo.actors.effects.bounds import Bounds
from huahuo.actors.effects.facts import CANCELLED, DONE, FAILED
from huahuo.actors.effects.memory import Memory
from huahuo.actors.effects.spec import Spec
from huahuo.actors.plugins.plugin import Gauges
from huahuo.actors.plugins.principal import UserId
from huahuo.eventstore.ambient import Ambient


class Figures(Memory):
    """See the module. `Effects` counts."""

    def __init__(
        self, ambient: Ambient, specs: Mapping[tuple[str, str], Spec], bounds: Bounds, *, claims: bool
    ) -> None:
        super().__init__(ambient, specs, bounds, claims=claims)
        self.by_user: Counter[UserId | None] = Counter()
        """Runs, of each user that has any."""
        self.opened = 0
        """How many effects are open, in memory or not."""
        self.retries = 0
        self.ends: Counter[str] = Counter()
        """Effects that ended since the start, by outcome."""

    @property
    def running(self) -> int:
        """How many run now."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many wait in memory for their turn, or for their next attempt."""
        return len(self._line.waiting) + len(self._asleep)

    def at_work(self) -> Collection[tuple[UserId, int]]:
        """Users, and how many effects run for each."""
        return [(user, count) for user, count in self.by_user.items() if user is not None]

    def show(self, metrics: Gauges) -> None:
        """What can be seen of effects from outside."""
        metrics.gauge("effects_open", "Effects that have not ended.", lambda: self.opened)
        metrics.gauge("effects_running", "Effects that run.", lambda: self.running)
        metrics.gauge("effects_waiting", "Effects that wait in memory.", lambda: self.waiting)
        metrics.gauge("effects_oldest_seconds", "Age of the oldest open effect.", self.oldest_s)
        metrics.total(
            "effects_retried", "Runs of effects that failed and were repeated.", lambda: self.retries
        )
        metrics.total("effects_done", "Effects that returned.", lambda: self.ends[DONE])
        metrics.total("effects_failed", "Effects that failed for good.", lambda: self.ends[FAILED])
        metrics.total("effects_cancelled", "Effects that were cancelled.", lambda: self.ends[CANCELLED])

    def oldest_s(self) -> float:
        """The age of the oldest effect in memory, in seconds. One that never returns makes it grow."""
        oldest_ms = min((entry.since_ms for entry in self._known.values()), default=None)
        return 0.0 if oldest_ms is None else max(0.0, (self._ambient.now_ms() - oldest_ms) / 1000)
