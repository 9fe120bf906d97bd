"""The bounds of a clockwork. Pure."""

from msgspec import Struct


class Limits(Struct, frozen=True):
    """The bounds of a clockwork."""

    in_memory_max: int = 8_192
    """Timers that are read ahead; up to twice as many may lie there."""
    at_once: int = 2_048
    """Commands that are decided at the same time."""
    retries_max: int = 1_024
    """Failed firings that wait; others are found again by the look at the table."""
    retry_s: float = 1.0
    retry_max_s: float = 300.0
