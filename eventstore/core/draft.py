"""Deciding a group: which of its appends are accepted, and exactly what is written.

Pure except for sealing, which needs fresh nonces. Runs inside the commit's job, so that numbering and
hashing cost the loop nothing. Each append of the group sees the appends before it as if they were durable.
A refused append leaves no trace and does not affect the others.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from huahuo.eventstore.blobs import blob_id, pack
from huahuo.eventstore.core.chain import link
from huahuo.eventstore.core.seal import Prepared, Vault
from huahuo.eventstore.core.storage_port import (
    Change,
    DropBlob,
    DropRow,
    DropSealed,
    EndStream,
    Group,
    Lookup,
    Place,
    Prune,
    PutBlob,
    PutCommand,
    PutKey,
    PutRow,
    PutSealed,
    Shred,
)
from huahuo.eventstore.errors import CommandMismatch, Conflict, Corrupt
from huahuo.eventstore.executor import give_way
from huahuo.eventstore.model import (
    LOG_STREAM,
    Append,
    Appended,
    CommandKey,
    CommandRecord,
    Duplicate,
    Head,
    RowPut,
    StoredEvent,
)

_EVENTS_A_STRETCH = 512
_SECRETS_A_STRETCH = 64
"""After this many, about 1.5 ms, the job offers the interpreter lock to other threads (`give_way`)."""

type Outcome = Appended | Duplicate | Exception


class Draft:
    """A group in the making."""

    def __init__(self, place: Place, lookup: Lookup, vault: Vault, build: str, age_ms: int) -> None:
        self.position = place.position
        self.chain = place.chain
        self.seqs: dict[str, int] = {}
        self.firsts: dict[str, int] = {}
        self.ended: list[str] = []
        self.events: list[StoredEvent] = []
        self.changes: list[Change] = []
        self._heads: Mapping[str, Head] = place.heads
        self._durable = place.position
        self._lookup = lookup
        self._vault = vault
        self._build = build
        self._age_ms = age_ms
        self._commands: dict[CommandKey, CommandRecord] = {}
        self._found: Mapping[CommandKey, CommandRecord] = {}
        self._looked_up: frozenset[CommandKey] = frozenset()
        self._keys: dict[str, bytes | None] = {}

    def group(self) -> Group:
        """The commit, as data."""
        return Group(self._age_ms, self.events, self.changes)

    def add(self, append: Append, prepared: Prepared | None = None) -> Outcome:
        """Accept `append`, or return why not. `prepared`: its secrets, sealed ahead."""
        command = append.command
        if command is not None:
            known = self._commands.get(command.key) or self._durable_record(command.key)
            if known is not None:
                if known.fingerprint != command.fingerprint:
                    return CommandMismatch(f"command {command.key.id} was used with another content")
                return Duplicate(known)
        if append.expected:
            for stream, expected in append.expected.items():
                actual = self._seq(stream)
                if actual != expected:
                    return Conflict(stream, expected, actual)
        try:
            return self._accept(append, prepared)
        except UnicodeEncodeError:
            return ValueError("a text of the append holds a lone surrogate")

    def look_up(self, keys: Sequence[CommandKey]) -> None:
        """Read the records of these commands in one go.

        A damaged record, or an id that is no text for the engine, is met again when its turn comes.
        """
        with suppress(Corrupt, ValueError):
            self._found = self._lookup.find_commands(keys)
            self._looked_up = frozenset(keys)

    def _durable_record(self, key: CommandKey) -> CommandRecord | None:
        if key in self._looked_up:
            return self._found.get(key)
        return self._lookup.find_commands((key,)).get(key)

    def _accept(self, append: Append, prepared: Prepared | None) -> Appended:
        """Number, link and collect. `self` changes only after every step that can fail."""
        seqs: dict[str, int] = {}
        events = self._number(append, seqs)
        changes: list[Change] = []
        keys: dict[str, bytes | None] = {}
        if append.shred or append.secrets or append.drop_secrets:
            self._seal(append, prepared, changes, keys)
        if append.rows or append.blobs or append.drop_blobs:
            _beside(append, changes)
        if append.prune is not None:
            changes.append(Prune(append.prune.positions, dict(append.prune.firsts)))
            self.firsts.update(append.prune.firsts)
        for ended in append.ended:
            check_text(ended)
            changes.append(EndStream(ended))
            self.ended.append(ended)
        command = append.command
        if command is not None:
            check_text(command.key.user, command.key.client, command.key.id, command.at_stream)
            if command.at_stream:
                # If the command answers with an event of an earlier append, it brings the seq itself.
                at_seq = seqs.get(command.at_stream, command.at_seq)
                command = CommandRecord(
                    command.key, command.fingerprint, command.reply, command.at_stream, at_seq
                )
            changes.append(PutCommand(command, self._age_ms))
            self._commands[command.key] = command
        if events:
            last = events[-1]
            self.position, self.chain = last.position, last.chain
            self.events += events
            self.seqs.update(seqs)
        if changes:
            self.changes += changes
            self._keys.update(keys)
        return Appended(self.position, events, command)

    def _number(self, append: Append, seqs: dict[str, int]) -> tuple[StoredEvent, ...]:
        """The events of `append` with positions and seqs. `seqs` gets the last seq of each stream."""
        position, chain, build = self.position, self.chain, self._build
        ts_ms, principal = append.ts_ms, append.principal
        common_id, cause = append.command_id, append.cause
        events: list[StoredEvent] = []
        for new in append.events:
            if len(events) % _EVENTS_A_STRETCH == _EVENTS_A_STRETCH - 1:
                give_way()
            stream, type_, body, version, entity = new.stream, new.type, new.body, new.version, new.entity
            command_id = new.command_id or common_id
            seq = seqs.get(stream)
            seqs[stream] = seq = (self._seq(stream) if seq is None else seq) + 1
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
        return tuple(events)

    def _seal(
        self,
        append: Append,
        prepared: Prepared | None,
        changes: list[Change],
        keys: dict[str, bytes | None],
    ) -> None:
        """Shred first, so that a secret put by the same append is sealed under a new key."""
        for owner in append.shred:
            check_text(owner)
            keys[owner] = None
            changes.append(Shred(owner))
        for owner, name in append.drop_secrets:
            check_text(owner, name)
            changes.append(DropSealed(owner, name))
        self._look_up_keys({put.owner for put in append.secrets}, keys)
        boxes: list[Change] = []  # after all keys: equal kinds in a row are written together
        ahead = {} if prepared is None else prepared.wrapped
        for number, put in enumerate(append.secrets):
            if number % _SECRETS_A_STRETCH == _SECRETS_A_STRETCH - 1:
                give_way()
            check_text(put.owner, put.name)
            wrapped = keys.get(put.owner)
            if wrapped is None:
                wrapped = keys[put.owner] = ahead.get(put.owner) or self._vault.new_key(put.owner)
                changes.append(PutKey(put.owner, wrapped))
            if prepared is not None and wrapped is ahead.get(put.owner):
                sealed = prepared.boxes[number]
            else:
                sealed = self._vault.seal(wrapped, put.owner, put.name, put.value)
            boxes.append(PutSealed(put.owner, put.name, sealed))
        changes += boxes

    def _look_up_keys(self, owners: set[str], keys: dict[str, bytes | None]) -> None:
        """Fill `keys` for all `owners`: from earlier appends of the group, or from the engine."""
        unknown = []
        for owner in sorted(owners - keys.keys()):
            if owner in self._keys:
                keys[owner] = self._keys[owner]
            else:
                unknown.append(owner)
        if unknown:
            keys.update(self._lookup.wrapped_keys(unknown))

    def _seq(self, stream: str) -> int:
        seq = self.seqs.get(stream)
        if seq is not None:
            return seq
        head = self._heads.get(stream)
        if head is not None:
            return head.seq
        if stream == LOG_STREAM:
            return self.position
        ended = self._lookup.ended_head(stream, self._durable)
        if ended is None:
            return 0
        self.firsts.setdefault(stream, ended.first)
        return ended.seq


def _beside(append: Append, changes: list[Change]) -> None:
    for row in append.rows:
        check_text(row.table, row.part)
        changes.append(PutRow(row) if isinstance(row, RowPut) else DropRow(row))
    changes.extend(PutBlob(blob_id(blob), pack(blob)) for blob in append.blobs)
    for dropped in append.drop_blobs:
        check_text(dropped)
        changes.append(DropBlob(dropped))


def check_text(*texts: str) -> None:
    """Raise UnicodeEncodeError for a text that no engine can store, which would fail the whole group."""
    "".join(texts).encode()
