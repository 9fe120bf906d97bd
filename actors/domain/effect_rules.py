"""How the effects of one class are run, and what may be said of it. Pure."""

import math
from collections.abc import Callable
from typing import Any

from huahuo.actors.domain.errors import DefinitionError
from huahuo.actors.domain.handlers import must_take
from huahuo.actors.domain.numbers import is_number, is_whole

type PerOf = Callable[[Any], object]
"""Of which host, account or the like an effect is: see `Entity.effect`."""


class EffectRules:
    """See `Entity.effect`."""

    def __init__(self, retries: int, backoff_s: float, at_once: int | None, per: PerOf | None) -> None:
        self.retries = retries
        self.backoff_s = backoff_s
        self.at_once = at_once
        self.per = per

    def check(self, where: str) -> None:
        """Raises DefinitionError: one of them is impossible. `where`: the handler, for the message."""
        if not (
            is_whole(self.retries, 0)
            and (self.at_once is None or is_whole(self.at_once, 1))
            and is_number(self.backoff_s)
            and 0 <= self.backoff_s < math.inf
        ):
            why = "retries= and backoff_s= are numbers from 0 on, at_once= from 1 on"
            raise DefinitionError(f"{where}: {why}")
        if self.per is None:
            return
        if not callable(self.per):
            raise DefinitionError(f"{where}: per= is a function of the effect: write lambda job: job.host")
        must_take(self.per, ("job",), "per=")
        if self.at_once is None:
            why = "per= says of which effects at_once= run at a time: write at_once=1, or leave per= out"
            raise DefinitionError(f"{where}: {why}")
