"""huahuo (花火): mailboxes checked over IMAP, streamed to clients that may disconnect and resume.

Exports the embedding API. `Service` is imported at its first use, so that each part of the package can be
imported alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from huahuo.errors import ConfigError, HuahuoError, NotRunning, OutcomeUnknown

if TYPE_CHECKING:
    from huahuo.embedding.service import Service

__all__ = ["ConfigError", "HuahuoError", "NotRunning", "OutcomeUnknown", "Service"]

_HOMES = {
    "Service": "huahuo.embedding.service",
}


if not TYPE_CHECKING:  # a type checker takes the names from the imports above

    def __getattr__(name: str) -> object:
        """Import an exported name at its first use."""
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(home), name)
        return value
