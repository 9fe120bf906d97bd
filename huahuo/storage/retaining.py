"""Retention as the service runs it: rules from a setting, and one small step after the other."""

import asyncio
import re
from collections.abc import Collection, Sequence
from typing import Final

import structlog

from huahuo.actors.domain.names import is_own_stream
from huahuo.actors.plugins.past import Past
from huahuo.admin.times import seconds
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.care.retention import Facts, Retention, Rule
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.errors import EventStoreError

STEP_PAUSE_S: Final = 0.05
"""Between two steps. A step takes some 10 ms of the writer, so most of its time stays for others."""
SWEEP_S: Final = 10.0
"""Until the next look, when nothing was left to do."""
_SIZE: Final = re.compile(r"([1-9][0-9]*)(B|KiB|MiB|GiB)")
_UNITS: Final = {"B": 0, "KiB": 10, "MiB": 20, "GiB": 30}
_USER: Final = "user/"
_DURABLE: Final = "ds/"

_log = structlog.get_logger(__name__)


def rules_of(texts: Sequence[str]) -> list[Rule]:
    """The rules of the setting: `group/*=30d`, `chat/*=500MiB`, `ds/*=7d 1GiB`, `group/kept=forever`.

    Raises:
        ValueError: a text is no rule.
    """
    return [_rule_of(text) for text in texts]


def facts_of(past: Past, guarded: Collection[str]) -> Facts:
    """Which events may be removed. Of what users see and of entities, only superseded progress."""

    def is_free(stream: str) -> bool:
        if stream.startswith(_DURABLE):
            return True
        return not stream.startswith(_USER) and is_own_stream(stream, guarded)

    return Facts(is_free, past.prunable, past.series_of)


class Retaining:
    """Applies the rules from `start` to `stop`."""

    def __init__(self, log: StoreLog, rules: Sequence[Rule], facts: Facts, ambient: Ambient) -> None:
        self._retention = Retention(log, rules, facts, ambient, "service")
        self._task: asyncio.Task[None] | None = None

    @property
    def pruned(self) -> int:
        """Events that went since the start."""
        return self._retention.pruned

    def begin_anew(self) -> None:
        """Others have pruned events."""
        self._retention.begin_anew()

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="retention")

    async def stop(self) -> None:
        """Stop. What is left to do is done after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        while True:
            try:
                more = await self._retention.step()
            except EventStoreError as error:
                _log.warning("retention_failed", reason=str(error))
                more = False
            await asyncio.sleep(STEP_PAUSE_S if more else SWEEP_S)


def _rule_of(text: str) -> Rule:
    streams, equals, bounds = (part.strip() for part in text.partition("="))
    older_than_ms: int | None = None
    bytes_max: int | None = None
    if not streams or not equals or not bounds:
        raise ValueError(f"{text[:60]!r} is no rule such as `group/*=30d` or `ds/*=7d 1GiB`")
    for bound in bounds.split():
        if bound == "forever":
            continue
        if size := _SIZE.fullmatch(bound):
            bytes_max = int(size[1]) << _UNITS[size[2]]
        else:
            older_than_ms = round(seconds(bound) * 1000)
    return Rule(streams=streams, older_than_ms=older_than_ms, bytes_max=bytes_max)
