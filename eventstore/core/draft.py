"""Deciding a group: which of its appends are accepted, and exactly what is written. Pure.

Runs inside the commit's job, so that numbering and hashing cost the loop nothing. Each append of the group
sees the appends before it as if they were durable. A refused append leaves no trace and does not affect the
others. What needs chance or another library's version (keys, nonces, compression) comes made with the append
(`huahuo.eventstore.core.seal`), so the same appends on the same state give the same bytes everywhere.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from huahuo.eventstore.core import row_changes
from huahuo.eventstore.core.chain import link
from huahuo.eventstore.core.storage_port import (
    NOTHING,
    Carried,
    Change,
    DropBlob,
    DropRow,
    DropSealed,
    EndStream,
    Group,
    Lookup,
    Place,
    Prune,
    PutCommand,
    PutKey,
    PutRow,
    Shred,
    key_name,
)
from huahuo.eventstore.errors import CommandMismatch, Conflict, Corrupt, KeyConflict
from huahuo.eventstore.executor import give_way
from huahuo.eventstore.model import (
    LOG_STREAM,
    Append,
    Appended,
    CommandKey,
    CommandRecord,
    Duplicate,
    Head,
    RowDrop,
    RowPut,
    StoredEvent,
)

COMMANDS_KEPT_MS = 8 * 24 * 3600 * 1000
"""An older command record does not exist for a decision, whether or not an engine has deleted it yet."""
_EVENTS_A_STRETCH = 512
"""After this many, about 1.5 ms, the job offers the interpreter lock to other threads (`give_way`)."""

type Outcome = Appended | Duplicate | Exception
type Part = tuple[str, str]
"""A table, and a part of it."""


class Draft:
    """A group in the making."""

    def __init__(self, place: Place, lookup: Lookup, build: str, age_ms: int) -> None:
        self.position = place.position
        self.chain = place.chain
        self.seqs: dict[str, int] = {}
        self.firsts: dict[str, int] = {}
        self.ended: list[str] = []
        self.events: list[StoredEvent] = []
        self.changes: list[Change] = []
        self._heads: Mapping[str, Head] = place.heads
        self._head = place.head
        self._durable = place.position
        self._lookup = lookup
        self.build = build
        self.age_ms = age_ms
        self._commands: dict[CommandKey, CommandRecord] = {}
        self._found: Mapping[CommandKey, CommandRecord] = {}
        self._looked_up: frozenset[CommandKey] = frozenset()
        self._keys: dict[str, bytes | None] = {}
        self._known_horizons = place.horizons
        self.horizons: dict[str, int] = {}
        """Tables that are tracked (`row_changes`) and whose horizon these appends moved."""
        self.touched: set[Part] = set()
        """The parts of tracked tables whose rows they changed."""

    def group(self) -> Group:
        """The commit, as data."""
        return Group(self.age_ms, self.events, self.changes)

    def add(self, append: Append, carried: Carried = NOTHING) -> Outcome:
        """Accept `append`, or return why not. `carried`: its secrets and blobs as they are stored."""
        if append.command is not None or append.expected:
            refused = self.refusal(append)
            if refused is not None:
                return refused
        return self.accept(append, carried)

    def refusal(self, append: Append) -> Duplicate | Conflict | CommandMismatch | None:
        """Why the state so far refuses `append`, None if it does not."""
        command = append.command
        if command is not None:
            known = self._commands.get(command.key) or self._durable_record(command.key)
            if known is not None:
                if known.fingerprint != command.fingerprint:
                    return CommandMismatch(f"command {command.key.id} was used with another content")
                return Duplicate(known)
        if append.expected:
            seqs, heads = self.seqs, self._heads
            for stream, expected in append.expected.items():
                if stream in seqs:
                    actual = seqs[stream]
                elif stream in heads:
                    actual = heads[stream].seq
                else:
                    actual = self._seq(stream)
                if actual != expected:
                    return Conflict(stream, expected, actual)
        return None

    def look_up(self, keys: Sequence[CommandKey]) -> None:
        """Read the records of these commands in one go.

        A damaged record, or an id that is no text for the engine, is met again when its turn comes.
        """
        with suppress(Corrupt, ValueError):
            self._found = self._lookup.find_commands(keys, self._since_ms)
            self._looked_up = frozenset(keys)

    def _durable_record(self, key: CommandKey) -> CommandRecord | None:
        if key in self._looked_up:
            return self._found.get(key)
        return self._lookup.find_commands((key,), self._since_ms).get(key)

    @property
    def _since_ms(self) -> int:
        return self.age_ms - COMMANDS_KEPT_MS

    def accept(self, append: Append, carried: Carried = NOTHING) -> Outcome:
        """Accept `append`, which `refusal` did not refuse. `self` changes after every step that can fail."""
        try:
            seqs: dict[str, int] = {}
            events = self._number(append, seqs)
            changes: list[Change] = []
            keys: dict[str, bytes | None] | None = None
            horizons: dict[str, int] = {}
            touched: set[Part] = set()
            if append.shred or carried.keys or append.drop_secrets:
                keys = {}
                self._seal(append, carried, changes, keys)
            if append.rows or carried.blobs or append.drop_blobs:
                position = events[-1].position if events else 0
                self._beside(append, carried, changes, position, horizons, touched)
            if append.prune is not None:
                changes.append(Prune(append.prune.positions, dict(append.prune.firsts)))
                self.firsts.update(append.prune.firsts)
            if append.ended:
                check_text(*append.ended)
                changes += map(EndStream, append.ended)
                self.ended += append.ended
            command = append.command
            if command is not None:
                key, at_stream = command.key, command.at_stream
                f"{key.user}{key.client}{key.id}{at_stream}".encode()  # `check_text`, without its call
                # If the command answers with an event of an earlier append, it brings the seq itself.
                if at_stream and (at_seq := seqs.get(at_stream, command.at_seq)) != command.at_seq:
                    command = CommandRecord(key, command.fingerprint, command.reply, at_stream, at_seq)
                changes.append(PutCommand(command, self.age_ms))
                self._commands[key] = command
            if events:
                last = events[-1]
                self.position, self.chain = last.position, last.chain
                self.events += events
                self.seqs.update(seqs)
            if changes:
                self.changes += changes
                if keys:
                    self._keys.update(keys)
                if horizons:
                    self.horizons.update(horizons)
                if touched:
                    self.touched |= touched
            return Appended(self.position, events, command)
        except UnicodeEncodeError:
            return ValueError("a text of the append holds a lone surrogate")
        except KeyConflict as conflict:
            return conflict

    def _number(self, append: Append, seqs: dict[str, int]) -> tuple[StoredEvent, ...]:
        """The events of `append` with positions and seqs. `seqs` gets the last seq of each stream."""
        position, chain, build = self.position, self.chain, self.build
        ts_ms, principal = append.ts_ms, append.principal
        common_id, cause, expected = append.command_id, append.cause, append.expected
        heads = self._heads
        events: list[StoredEvent] = []
        stream, seq = "", 0
        for number, new in enumerate(append.events, 1):
            if not number % _EVENTS_A_STRETCH:
                give_way()
            if new.stream != stream:  # most are of the stream of the event before
                if seq:
                    seqs[stream] = seq
                stream = new.stream
                if stream in seqs:
                    seq = seqs[stream]
                elif stream in expected:  # which `refusal` has compared
                    seq = expected[stream]
                elif stream in self.seqs:
                    seq = self.seqs[stream]
                elif stream in heads:
                    seq = heads[stream].seq
                else:
                    seq = self._seq(stream)
            type_, body, version, entity = new.type, new.body, new.version, new.entity
            command_id = new.command_id or common_id
            seq += 1
            position += 1
            chain = link(
                chain,
                (position, stream, seq, type_, body, version,
                 ts_ms, entity, principal, command_id, cause, build),
            )  # fmt: skip
            events.append(
                StoredEvent(
                    position, stream, seq, type_, body, version,
                    ts_ms, entity, principal, command_id, cause, build, chain,
                )
            )  # fmt: skip
        if seq:
            seqs[stream] = seq
        return tuple(events)

    def _seal(
        self, append: Append, carried: Carried, changes: list[Change], keys: dict[str, bytes | None]
    ) -> None:
        """Shred first, so that a secret put by the same append is sealed under a new key.

        Raises:
            KeyConflict: the secrets were sealed under a key that is not the owner's any more, or under a new
                one although the owner has one by now.
        """
        for owner in append.shred:
            check_text(owner)
            keys[owner] = None
            changes.append(Shred(owner))
        for owner, name in append.drop_secrets:
            check_text(owner, name)
            changes.append(DropSealed(owner, name))
        if not carried.keys:
            return
        keys |= self.wrapped_keys([use.owner for use in carried.keys if use.owner not in keys])
        for use in carried.keys:
            check_text(use.owner)
            held = keys[use.owner]
            if use.wrapped:
                if held is not None:
                    raise KeyConflict(use.owner)
                keys[use.owner] = use.wrapped
                changes.append(PutKey(use.owner, use.wrapped))
            elif held is None or key_name(held) != use.name:
                raise KeyConflict(use.owner)
        for box in carried.boxes:
            check_text(box.owner, box.name)
        changes += carried.boxes  # after all keys: equal kinds in a row are written together

    def wrapped_keys(self, owners: Iterable[str]) -> dict[str, bytes | None]:
        """The data keys of `owners` after the appends so far, None for an owner without one."""
        keys: dict[str, bytes | None] = {}
        unknown = []
        for owner in sorted(set(owners)):
            keys[owner] = self._keys.get(owner)
            if owner not in self._keys:
                unknown.append(owner)
        if unknown:
            keys.update(self._lookup.wrapped_keys(unknown))
        return keys

    def _beside(
        self, append: Append, carried: Carried, changes: list[Change],
        position: int, horizons: dict[str, int], touched: set[Part],
    ) -> None:  # fmt: skip
        """`position`: where the append ends, 0 without events.

        Rows of a tracked table that come without an event have no position of their own. So whoever stands
        here, or before, is to read the table anew.
        """
        check_text(append.owner)
        table = part = ""
        tracked = False
        for row in append.rows:
            if row.table != table or row.part != part:  # mostly those of the row before
                table, part = row.table, row.part
                check_text(table, part)
                tracked = table in self._known_horizons or table in self.horizons
                if tracked:
                    touched.add((table, part))
                    if not position:
                        anew = row_changes.horizon(table, self.position + 1)
                        changes.append(PutRow(self._placed(anew, 0, horizons)))
            if isinstance(row, RowPut):
                if table == row_changes.HORIZONS:
                    row = self._placed(row, position or self.position, horizons)  # noqa: PLW2901
                changes.append(PutRow(row))
                if tracked and position:
                    changes.append(PutRow(row_changes.note(table, part, position, row.key)))
                continue
            if row.blobs and self._has_row(row, changes):
                check_text(*row.blobs)
                changes.extend(DropBlob(name, append.owner) for name in row.blobs)
            changes.append(DropRow(row))
            if tracked and position and row.key is not None:
                changes.append(PutRow(row_changes.note(table, part, position, row.key)))
            elif tracked and row.key is None:
                changes.append(DropRow(RowDrop(row_changes.CHANGES + table, part)))
                changes.append(PutRow(self._placed(row_changes.track(table), position, horizons)))
        changes += carried.blobs
        for dropped in append.drop_blobs:
            check_text(dropped)
            changes.append(DropBlob(dropped, append.owner))

    def _placed(self, put: RowPut, position: int, horizons: dict[str, int]) -> RowPut:
        """The row of a horizon with its position, which is noted in `horizons`, and never decreases."""
        table = put.key.decode()
        before = horizons.get(table) or self.horizons.get(table) or self._known_horizons.get(table, 0)
        horizons[table] = at = max(before, int(put.value or position))
        return RowPut(put.table, put.part, put.key, str(at).encode())

    def _has_row(self, drop: RowDrop, changes: Sequence[Change]) -> bool:
        """Whether the row is there after `changes` and those of the appends before."""
        assert drop.key is not None, "only a single row releases blobs"
        place = (drop.table, drop.part, drop.key)
        for change in itertools.chain(reversed(changes), reversed(self.changes)):
            if isinstance(change, PutRow | DropRow):
                row = change.row
                if (row.table, row.part) == place[:2] and row.key in (None, drop.key):
                    return isinstance(change, PutRow)
        return self._lookup.has_row(*place)

    def _seq(self, stream: str) -> int:
        """The last seq of a stream that is in neither `seqs` nor `_heads`."""
        head = self._head(stream)
        if head is not None:
            return head.seq
        if stream == LOG_STREAM:
            return self.position
        ended = self._lookup.ended_head(stream, self._durable)
        if ended is None:
            return 0
        self.firsts.setdefault(stream, ended.first)
        return ended.seq


def check_text(*texts: str) -> None:
    """Raise UnicodeEncodeError for a text that no engine can store, which would fail the whole group."""
    "".join(texts).encode()
