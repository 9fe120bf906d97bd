"""The mailboxes of a user as the user sees them: the state that `user/<id>` folds to. Pure.

The roster decides on it and a snapshot shows it. The browser client folds the same events to the same rows.
A change of this state or its fold must change `RosterFold.fingerprint`.
"""

from sys import intern
from typing import Any, Final, Protocol

import msgspec
from msgspec.structs import replace

from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.model import StoredEvent
from huahuo.mailcheck import events
from huahuo.mailcheck.records import Row

_CHANGEABLE = ("mail_type", "server", "port", "use_ssl", "watched")
_LABELS = ("tags", "note", "group")
ROW_BYTES: Final = 940
"""Memory of one row, with its address and its entries in two tables."""


class Watcher(Protocol):
    """An observer of the rows, such as an order in which they are listed."""

    def changed(self, old: Row | None, new: Row | None) -> None:
        """A row came, went or was replaced."""
        ...


class Views:
    """Caches for listing a roster's rows. They are not part of the state, so any two compare equal."""

    __slots__ = ("cut", "kept", "watchers")

    def __init__(self) -> None:
        self.kept = False  # most rosters are not being listed
        self.cut: tuple[Row, ...] | None = None
        self.watchers: dict[str, Watcher] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Views)

    __hash__ = None  # type: ignore[assignment]

    def changed(self, old: Row | None, new: Row | None) -> None:
        """A row came, went or was replaced."""
        self.cut = None
        self.kept = bool(self.watchers)
        for watcher in self.watchers.values():
            watcher.changed(old, new)


class Roster(msgspec.Struct):
    """A user's mailboxes by id, their ids by lower-cased address, and the check each one has open.

    `undotted`: the ids of mailboxes at Gmail whose address has dots, by the address without them.
    """

    user_id: UserId
    rows: dict[int, Row]
    addresses: dict[str, int]
    checks: dict[int, int]
    views: Views = msgspec.field(default_factory=Views)
    undotted: dict[str, int] = {}

    def known(self, email: str, email_id: int) -> None:
        """A mailbox has this address."""
        address = email.lower()
        self.addresses[address] = email_id
        if (plain := _undotted(address)) != address:
            self.undotted[plain] = email_id

    def of_address(self, address: str) -> Row | None:
        """The mailbox of this address, or the one of which it is an alias (`name+tag@`, dots at Gmail)."""
        exact = address.lower()
        local, _, domain = exact.rpartition("@")
        untagged = f"{local.partition('+')[0]}@{domain}"
        for one in (exact, untagged, _undotted(untagged)):
            email_id = self.addresses.get(one) or self.undotted.get(one)
            if email_id is not None:
                return self.rows.get(email_id)
        return None

    def cut(self) -> tuple[Row, ...]:
        """The current rows by ascending id. Until the next change, all callers share one tuple."""
        if self.views.cut is None:
            self.views.kept = True
            self.views.cut = tuple(self.rows[number] for number in sorted(self.rows))
        return self.views.cut

    def put(self, old: Row | None, new: Row) -> None:
        """Replace `old` with `new`."""
        self.rows[new.id] = new
        if self.views.kept:
            self.views.changed(old, new)

    def remove(self, row: Row) -> None:
        """Remove a deleted mailbox."""
        del self.rows[row.id]
        self.addresses.pop(row.email.lower(), None)
        self.undotted.pop(_undotted(row.email.lower()), None)
        self.checks.pop(row.id, None)
        if self.views.kept:
            self.views.changed(row, None)


class _Dump(msgspec.Struct, array_like=True):
    """A keyframe. The rest of a roster can be computed from it."""

    rows: list[Row]
    checks: dict[int, int]


class RosterFold:
    """Folds a roster from the public stream of its user."""

    name: Final = "roster"
    fingerprint: Final = "roster-4"

    def initial(self, stream: str) -> Roster:
        """See `Fold`. Raises ValueError if the stream's name holds no number."""
        return Roster(user_id=events.user_of(stream), rows={}, addresses={}, checks={})

    def evolve(self, state: Roster, event: StoredEvent) -> Roster:
        """See `Fold`. Events that other parts of the system write to the stream are ignored."""
        body = events.read(event)
        if isinstance(body, events.EmailAdded):
            state.put(state.rows.get(body.email_id), _new_row(state.user_id, body))
            state.known(body.email, body.email_id)
            return state
        if body is None or (row := state.rows.get(getattr(body, "email_id", 0))) is None:
            return state
        match body:
            case events.CheckProgress():
                state.put(row, replace(row, progress=body.progress, message=body.message))
            case events.EmailStatusUpdate():
                _status(state, row, body)
            case events.MailReceived():
                state.put(row, replace(row, mail_count=row.mail_count + 1))
            case events.EmailUpdated():
                given = {name: getattr(body, name) for name in _CHANGEABLE}
                changes: dict[str, Any] = {
                    name: value for name, value in given.items() if value is not msgspec.UNSET
                }
                for name in ("folders", "claim"):
                    if (value := getattr(body, name)) is not msgspec.UNSET:
                        changes[name] = msgspec.UNSET if value is None else value
                state.put(row, replace(row, **changes, **_labels(body)))
            case events.EmailDeleted():
                state.remove(row)
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
            state.known(row.email, row.id)
        return state


def _undotted(address: str) -> str:
    """The address by which Gmail knows it. Others stay as they are."""
    local, _, domain = address.rpartition("@")
    return f"{local.replace('.', '')}@gmail.com" if domain in ("gmail.com", "googlemail.com") else address


# Interned, because up to 100,000 mailboxes of a user share a few servers.
def _new_row(user_id: UserId, body: events.EmailAdded) -> Row:
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


def _labels(body: events.EmailUpdated) -> dict[str, Any]:
    """The labels that changed; one that was taken off is no field of the row."""
    given = {name: getattr(body, name) for name in _LABELS}
    return {name: value or msgspec.UNSET for name, value in given.items() if value is not msgspec.UNSET}


def _status(state: Roster, row: Row, body: events.EmailStatusUpdate) -> None:
    checked = body.timestamp if body.status == "ok" else row.last_check_time
    status = intern(body.status)
    failure = intern(body.error_class) if body.error_class else msgspec.UNSET
    state.put(
        row,
        replace(row, status=status, message=body.message, last_check_time=checked, error_class=failure),
    )
    if body.status in events.STATUSES_BUSY:
        state.checks[row.id] = body.check_id
    else:
        state.checks.pop(row.id, None)
