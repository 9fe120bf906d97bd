"""The calls of one follower's function: how long one runs, how many failed, and with what."""

from collections.abc import Sequence

import structlog

from huahuo.actors.actor.errors import where
from huahuo.actors.followers.spec import FollowerRun, ReadEvent, Spec
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.cancelling import is_cancelled
from huahuo.eventstore.model import StoredEvent

_log = structlog.get_logger(__name__)


class Calls:
    """See the module. One call at a time. `name`: the follower's."""

    def __init__(self, name: str, *, ambient: Ambient, read: ReadEvent) -> None:
        self._name = name
        self._ambient = ambient
        self._read_event = read
        self._begun_ms: int | None = None
        """Since when the function runs."""
        self.error = ""
        """The type of the last exception, until a delivery succeeds."""
        self.delivered = 0
        self.failed = 0

    @property
    def running(self) -> bool:
        """Whether the function runs."""
        return self._begun_ms is not None

    @property
    def busy_s(self) -> float:
        """How long the function has been running."""
        return 0.0 if self._begun_ms is None else (self._ambient.now_ms() - self._begun_ms) / 1000

    async def call(self, spec: Spec, batch: Sequence[StoredEvent], run: FollowerRun) -> BaseException | None:
        """Call the function of `spec`, and return what it raised."""
        self._begun_ms = self._ambient.now_ms()
        try:
            await spec.call([self._read_event(event) for event in batch], run)
        except BaseException as error:  # user code
            if is_cancelled(error):
                raise
            self.failed += 1
            about = {"stream": batch[0].stream, "seq": batch[0].seq} if batch else {}
            self.say(error, "follower_failed", attempt=run.attempt, **about)
            return error
        finally:
            self._begun_ms = None
        self.delivered += len(batch)
        self.error = ""
        return None

    def say(self, error: BaseException, what: str, **more: object) -> None:
        """Log a failure. Its text is not logged, because it may quote what nobody should read."""
        self.error = type(error).__name__
        _log.warning(what, follower=self._name, error=self.error, at=where(error), **more)
