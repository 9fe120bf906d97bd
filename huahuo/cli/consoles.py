"""A console of rich, imported only by a command that prints: its import costs 0.05 s of processor time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from rich.console import Console


def console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is: without colours of its own choice, without emoji."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, emoji=False)


def import_structlog_without_rich() -> None:
    """Hide rich from structlog, which would import rich's tracebacks and pygments: 0.03 s of each start.

    Our log lines have tracebacks as plain text. Where an application imports huahuo, structlog is as usual.
    """
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]  # None: not to be found
    modules["rich"] = None
    try:
        import structlog  # noqa: F401
    finally:
        del modules["rich"]
