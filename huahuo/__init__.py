"""huahuo (花火): mailboxes checked over IMAP, streamed to clients that may vanish and return."""

from huahuo.errors import ConfigError, HuahuoError, NotRunning, OutcomeUnknown
from huahuo.service import Service

__all__ = ["ConfigError", "HuahuoError", "NotRunning", "OutcomeUnknown", "Service"]
