"""Whether the ordered log answers this node: logged when it does not any more, and when it does again."""

import asyncio
from collections.abc import Callable, Coroutine

import structlog

from huahuo.eventstore.ambient import Ambient

SILENT_S = 6.0
"""A log is called silent when a proposal of this node has waited this long for its place: a network that was
lost drops packets without a word, so no request fails. The logs' own fail-over takes 4 to 9 s."""
_log = structlog.get_logger(__name__)


class Reaching:
    """See the module."""

    def __init__(self, ambient: Ambient) -> None:
        self._ambient = ambient
        self._answered_s = ambient.monotonic_s()
        self._away_s: float | None = None
        self._hint = ""
        self._said: str | None = None

    def answered(self) -> None:
        """A proposal of this node was put in order, or none waits."""
        self._answered_s = self._ambient.monotonic_s()
        self._hint = ""

    def doubt(self, hint: str) -> None:
        """A proposal got no place, and this may be why."""
        self._hint = hint or self._hint

    def silence(self, *, waits: bool, arrives: bool, trouble: str | None, why: str) -> str | None:
        """What to say of a log that has been silent for too long; None if it has not.

        `waits`: a proposal of this node waits for its place. `arrives`: there is something to apply.
        `trouble`: what is said now; None is returned too if that says something else. `why`: why the log
        can't be read.
        """
        if not waits:
            self.answered()
        silent_s = self._ambient.monotonic_s() - self._answered_s
        if arrives or silent_s <= SILENT_S or trouble not in (None, self._said):
            return None
        hint = why or self._hint
        self._said = f"the ordered log has not answered for {silent_s:.0f} s{f': {hint}' if hint else ''}"
        return self._said

    def note(self, trouble: str | None) -> None:
        """The log can't be reached, for this reason; or it answers (None)."""
        now_s = self._ambient.monotonic_s()
        if trouble is not None and self._away_s is None:
            self._away_s = now_s
            _log.warning("ordered_log_away", reason=trouble)
        elif trouble is None and self._away_s is not None:
            _log.info("ordered_log_back", after_s=round(now_s - self._away_s, 1))
            self._away_s = None


async def meanwhile(work: Coroutine[None, None, None], tell: Callable[[], None], every_s: float) -> None:
    """Wait for `work`; `tell` first, and whenever it has not ended for `every_s`. Raises as they do."""
    task = asyncio.ensure_future(work)
    try:
        while True:
            tell()
            if (await asyncio.wait((task,), timeout=every_s))[0]:
                return task.result()
    finally:
        task.cancel()
