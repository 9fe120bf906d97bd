"""The records of commands in the log: found by their keys, each proven by its checksum."""

import sqlite3
from collections.abc import Sequence
from itertools import batched

from huahuo.eventstore.core.sums import must_fit
from huahuo.eventstore.limits import INT64_MAX
from huahuo.eventstore.model import CommandKey, CommandRecord

_IDS_A_STATEMENT = 256
_COMMAND = (
    "SELECT id, fingerprint, reply, at_stream, at_seq, ts, crc FROM command"
    " WHERE user = ? AND client = ? AND id IN ({})"
)
_COMMANDS = {
    size: _COMMAND.format(", ".join("?" * size))
    for size in (1 << power for power in range(_IDS_A_STATEMENT.bit_length()))
}


def select_command(connection: sqlite3.Connection, key: CommandKey) -> CommandRecord | None:
    """The record of a command, if any. Raises Corrupt."""
    return select_commands(connection, (key,)).get(key)


def select_commands(
    connection: sqlite3.Connection, keys: Sequence[CommandKey], since_ms: int = -INT64_MAX
) -> dict[CommandKey, CommandRecord]:
    """The records of those of `keys` that have one since `since_ms`, by one query for each client.

    Raises Corrupt.
    """
    ids: dict[tuple[str, str], list[str]] = {}
    for key in keys:
        ids.setdefault((key.user, key.client), []).append(key.id)
    found: dict[CommandKey, CommandRecord] = {}
    for (user, client), of_client in ids.items():
        for some in batched(of_client, _IDS_A_STATEMENT):
            # Few different statements, so that all of them stay prepared: the last id fills the gaps.
            size = 1 << (len(some) - 1).bit_length()
            asked = (*some, *some[-1:] * (size - len(some)))
            for id_, *rest, crc in connection.execute(_COMMANDS[size], (user, client, *asked)):
                must_fit(crc, "command", user, client, id_, *rest)
                if rest[4] >= since_ms:
                    key = CommandKey(user, client, id_)
                    found[key] = CommandRecord(key, *rest[:4])
    return found
