"""The decision about a failed actor, as data. Pure: time and chance are arguments.

`huahuo.actors.actor.loop_actor` carries it out.
"""

import msgspec


class Stop(msgspec.Struct, frozen=True):
    """The actor ends, as in pykka. For actors that a client or an owner starts again."""


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """The actor object is replaced. Its ref, its URN and the messages in its inbox stay.

    The first restart waits `backoff_min_s`, and each further one within `window_s` twice as long, up to
    `backoff_max_s`. Chance adds at most the fraction `jitter`. After `restarts_max` restarts within
    `window_s`, the next failure ends the actor. A message that was told (not asked) and failed becomes a dead
    letter: it would fail again.
    """

    backoff_min_s: float = 0.2
    backoff_max_s: float = 30.0
    jitter: float = 0.2
    restarts_max: int = 5
    window_s: float = 60.0


type Supervision = Stop | Restart


class RestartAfter(msgspec.Struct, frozen=True):
    """Restart after a delay. `failures` is the history for the next decision."""

    delay_s: float
    failures: tuple[float, ...]


class GiveUp(msgspec.Struct, frozen=True):
    """The actor failed too often and ends."""

    failures: tuple[float, ...]


def after_failure(
    policy: Restart, earlier: tuple[float, ...], now_s: float, chance: float
) -> RestartAfter | GiveUp:
    """Decide after a failure at `now_s`.

    Args:
        policy: The actor's limits.
        earlier: Times of earlier failures, oldest first, as returned by the last decision.
        now_s: A monotonic time.
        chance: A number in [0, 1).
    """
    failures = (*(at_s for at_s in earlier if now_s - at_s < policy.window_s), now_s)
    if len(failures) > policy.restarts_max:
        return GiveUp(failures)
    # The exponent is bounded, because 2.0**1024 overflows. At 64 the maximum applies anyway.
    doubled_s = policy.backoff_min_s * 2.0 ** min(len(failures) - 1, 64)
    delay_s = min(policy.backoff_max_s, doubled_s * (1 + policy.jitter * chance))
    return RestartAfter(delay_s, failures)
