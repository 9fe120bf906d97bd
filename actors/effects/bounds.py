"""The bounds of a runner of effects. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What may run and wait in memory at a time."""

    at_once: int = 512
    at_once_per_user: int | None = None
    waiting_max: int = 20_000
    waiting_per_user_max: int = 10_000
    sweep_s: float = 30.0
    """How often the table is searched for effects that no process works on."""
