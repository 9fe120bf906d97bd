"""Some proofs are slow: the suite has a short form of them, and `make check-all` runs them in full."""

import os
from collections.abc import Callable
from typing import Any, Final

WHOLE = bool(os.environ.get("HUAHUO_WHOLE"))
SHORT_EXAMPLES_MIN: Final = 20


def examples(count: int) -> int:
    """How many examples hypothesis tries: a quarter of `count` in the short form, or 20 if that is more."""
    return count if WHOLE else min(count, max(SHORT_EXAMPLES_MIN, count // 4))


def whole_only[Test: Callable[..., Any]](test: Test) -> Test | None:
    """The test, where `make check-all` runs; else None, which pytest does not collect.

    A mark would skip it, and a skipped test fails a run in CI.
    """
    return test if WHOLE else None
