"""What an ordered log in PostgreSQL says where something is wrong with it, and what may help. Pure."""

import ssl

import asyncpg

from huahuo.eventstore.sequencer.address import LogAddress
from huahuo.eventstore.sequencer.credentials import tls_refusal

LOCK_S = 8
"""A statement that waits longer for the row of the head is refused by the server, and nothing was written.
Less than the time a caller waits (`postgres.ANSWER_S`), so that it gets this clean answer first."""
HEAD_LOST = "the log's table head has lost its row: restore the log, or use another ?name="
OCCUPIED = (
    "the log's table proposals has a row behind the log's end: somebody wrote into its tables;"
    " docs/scaling.md says what to do"
)
TABLES_LOST = "the log's tables are gone from the schema {}: restore the log, and start this node again"

_READ_ONLY = "read-only transaction"
_READ_ONLY_HINT = (
    "default_transaction_read_only is on for the server, the database or the role: see \\drds in psql"
)
_HINTS = (
    ("rejected SSL upgrade", "it speaks no TLS: set ssl = on there, or say ?sslmode=disable"),
    ("no encryption", "?sslmode=verify-full speaks TLS"),
    ("client certificate", "?sslcert=FILE&sslkey=FILE name ours"),
    (_READ_ONLY, _READ_ONLY_HINT),
)
"""What a failed attempt says, and what may help."""
_TLS_ENDED = (ssl.SSLError, ConnectionResetError, asyncpg.ConnectionDoesNotExistError)


def told(error: BaseException, address: LogAddress) -> str:
    """What a failed attempt to connect says, and what may help."""
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        alone = len(address.hosts) == 1
        return f"it is a standby{f' ({address.kind}://primary,standby/… names both)' if alone else ''}"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    said = first_line(error)
    if address.encrypted and isinstance(error, _TLS_ENDED):
        return tls_refusal(error, address, said)
    hint = next((hint for part, hint in _HINTS if part in said), "")
    return f"{said} ({hint})" if hint else said


def failed(error: BaseException, stuck: str) -> str:
    """What a failed statement says. `stuck`: why an earlier commit may not end, or ""."""
    if isinstance(error, asyncpg.LockNotAvailableError):
        return f"an earlier commit has not ended for {LOCK_S} s" + (f": {stuck}" if stuck else "")
    said = first_line(error)
    return f"{said} ({_READ_ONLY_HINT})" if _READ_ONLY in said else said


def first_line(error: BaseException) -> str:
    """What an error says, without its details."""
    return str(error).partition("\n")[0] or type(error).__name__
