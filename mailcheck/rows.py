"""What a user sees of his mailboxes: the state that `user/<id>` folds to. Pure.

The roster decides on it, a snapshot shows it, and the browser client folds the same events to the
same rows. Changes here change `RosterFold.fingerprint`.
"""

from collections.abc import Iterator
from sys import intern
from typing import Final

import msgspec

from eventstore.model import StoredEvent
from mailcheck.events import (
    STATUSES_BUSY,
    CheckProgress,
    EmailAdded,
    EmailDeleted,
    EmailStatusUpdate,
    EmailUpdated,
    MailReceived,
    id_of,
    read,
)

SLICE_ROWS: Final = 1_000
ROW_BYTES: Final = 900
"""What a row takes in memory, with its address and its places in two tables."""


class Row(msgspec.Struct, gc=False):
    """One mailbox as PROTOCOL 6 shows it; `last_check_time` moves only after a success."""

    id: int
    user_id: int
    email: str
    mail_type: str
    server: str
    port: int
    use_ssl: bool
    created_at: str
    status: str = "idle"
    progress: int = 0
    message: str = ""
    last_check_time: str | None = None
    mail_count: int = 0


class Roster(msgspec.Struct):
    """A user's mailboxes by id, their ids by lower-cased address, and the check each one has open."""

    user_id: int
    rows: dict[int, Row]
    addresses: dict[str, int]
    checks: dict[int, int]


class _Dump(msgspec.Struct, array_like=True):
    """A keyframe: what the rest of a roster follows from."""

    rows: list[Row]
    checks: dict[int, int]


class RosterFold:
    """How a roster follows from its user's public stream."""

    name: Final = "roster"
    fingerprint: Final = "roster-1"

    def initial(self, stream: str) -> Roster:
        """See `Fold`. Raises ValueError for a stream that is no user's."""
        return Roster(user_id=id_of(stream), rows={}, addresses={}, checks={})

    def evolve(self, state: Roster, event: StoredEvent) -> Roster:
        """See `Fold`. What other parts of the system say on the stream changes nothing here."""
        body = read(event)
        if isinstance(body, EmailAdded):
            state.rows[body.email_id] = _new_row(state.user_id, body)
            state.addresses[body.email.lower()] = body.email_id
            return state
        if body is None or (row := state.rows.get(getattr(body, "email_id", 0))) is None:
            return state
        match body:
            case CheckProgress():
                row.progress, row.message = body.progress, body.message
            case EmailStatusUpdate():
                _status(state, row, body)
            case MailReceived():
                row.mail_count += 1
            case EmailUpdated():
                for name in ("mail_type", "server", "port", "use_ssl"):
                    value = getattr(body, name)
                    if value is not msgspec.UNSET:
                        setattr(row, name, value)
            case EmailDeleted():
                del state.rows[row.id]
                state.addresses.pop(row.email.lower(), None)
                state.checks.pop(row.id, None)
            case _:
                pass
        return state

    def dump(self, state: Roster) -> bytes:
        """See `Fold`."""
        return msgspec.msgpack.encode(_Dump(list(state.rows.values()), state.checks))

    def load(self, stream: str, data: bytes) -> Roster:
        """See `Fold`."""
        frame = msgspec.msgpack.decode(data, type=_Dump)
        state = self.initial(stream)
        state.checks = frame.checks
        for row in frame.rows:
            state.rows[row.id] = row
            state.addresses[row.email.lower()] = row.id
        return state


def pieces_of(state: Roster, head: bytes = b"", tail: bytes = b"") -> Iterator[bytes]:
    """`head`, the rows as a JSON array by ascending id, `tail`: in pieces of half a millisecond each."""
    numbers = sorted(state.rows)
    opened = head + b"["
    for start in range(0, len(numbers), SLICE_ROWS):
        some = numbers[start : start + SLICE_ROWS]
        yield opened + msgspec.json.encode([state.rows[number] for number in some])[1:-1]
        opened = b","
    yield (b"" if numbers else opened) + b"]" + tail


def emails(state: Roster) -> bytes:
    """The rows as a JSON array, by ascending id."""
    return b"".join(pieces_of(state))


def snapshot_pieces(state: Roster) -> Iterator[bytes]:
    """The state of a snapshot of `user/<id>` (PROTOCOL 2), in pieces."""
    return pieces_of(state, b'{"emails":', b"}")


def snapshot_state(state: Roster) -> bytes:
    """All of them."""
    return b"".join(snapshot_pieces(state))


# Interned: a user has few servers and 100,000 mailboxes.
def _new_row(user_id: int, body: EmailAdded) -> Row:
    return Row(
        id=body.email_id,
        user_id=user_id,
        email=body.email,
        mail_type=intern(body.mail_type),
        server=intern(body.server),
        port=body.port,
        use_ssl=body.use_ssl,
        created_at=body.timestamp,
    )


def _status(state: Roster, row: Row, body: EmailStatusUpdate) -> None:
    row.status, row.message = intern(body.status), body.message
    if body.status in STATUSES_BUSY:
        state.checks[row.id] = body.check_id
    else:
        state.checks.pop(row.id, None)
    if body.status == "ok":
        row.last_check_time = body.timestamp
