"""What shall become of an actor that failed: the decision as data, without clock or chance.

`huahuo.actors.runtime.supervisor` carries it out.
"""

import msgspec


class Stop(msgspec.Struct, frozen=True):
    """The actor ends, as in pykka. For what a client or an owner brings up again."""


class Escalate(msgspec.Struct, frozen=True):
    """The actor ends and its parent fails with the same error; without one, `on_give_up` hears of it."""


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """The actor object is replaced; its ref, its URN and what waits in its inbox stay.

    The first restart waits `backoff_min_s`, each further one within `window_s` twice as long, up to
    `backoff_max_s`; chance adds up to `jitter` of that. After `restarts_max` restarts within
    `window_s` the next failure is the end.

    `redeliver`: a message told (not asked) that killed the actor is handled once more after the
    restart, and becomes a dead letter if it kills again; so its handler must bear a repetition.
    False: it is a dead letter at once.
    """

    backoff_min_s: float = 0.2
    backoff_max_s: float = 30.0
    jitter: float = 0.2
    restarts_max: int = 5
    window_s: float = 60.0
    redeliver: bool = True


type Supervision = Stop | Restart | Escalate


class RestartAfter(msgspec.Struct, frozen=True):
    """Try again after a delay; `failures` is the history to bring to the next decision."""

    delay_s: float
    failures: tuple[float, ...]


class GiveUp(msgspec.Struct, frozen=True):
    """Too often: the actor ends."""

    failures: tuple[float, ...]


def after_failure(
    policy: Restart, earlier: tuple[float, ...], now_s: float, chance: float
) -> RestartAfter | GiveUp:
    """Decide after a failure at `now_s`.

    Args:
        policy: The actor's limits.
        earlier: Times of earlier failures, oldest first, as the last decision returned them.
        now_s: A monotonic time.
        chance: A number in [0, 1).
    """
    failures = (*(at_s for at_s in earlier if now_s - at_s < policy.window_s), now_s)
    if len(failures) > policy.restarts_max:
        return GiveUp(failures)
    # The exponent is bounded: 2.0**1024 overflows, and long before the maximum rules.
    doubled_s = policy.backoff_min_s * 2.0 ** min(len(failures) - 1, 64)
    delay_s = min(policy.backoff_max_s, doubled_s * (1 + policy.jitter * chance))
    return RestartAfter(delay_s, failures)
