"""The state of the in-memory engine after all its commits: dictionaries, and how each change is applied."""

from huahuo.eventstore.core.ages import AgeNote
from huahuo.eventstore.core.changes import (
    PASSED_KEPT,
    Change,
    DropBlob,
    DropRow,
    DropSealed,
    EndStream,
    ForgetUser,
    Group,
    Passed,
    Prune,
    PutAcks,
    PutAge,
    PutBlob,
    PutCommand,
    PutCounter,
    PutKey,
    PutKeyframe,
    PutPassed,
    PutRow,
    PutSealed,
    Shred,
    Touch,
)
from huahuo.eventstore.limits import KEYFRAME_SPAN, KEYFRAMES_KEPT
from huahuo.eventstore.model import CommandKey, CommandRecord, Keyframe, StoredEvent, Tombstone


class Tables:
    """The state after all records."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self.types: set[str] = set()
        self.streams: dict[str, list[StoredEvent]] = {}
        self.firsts: dict[str, int] = {}
        self.ended: set[str] = set()
        self.pruned: list[Tombstone] = []
        self.commands: dict[CommandKey, CommandRecord] = {}
        self.command_times: dict[CommandKey, int] = {}
        self.counters: dict[str, int] = {}
        self.keys: dict[str, bytes] = {}
        self.sealed: dict[str, dict[str, bytes]] = {}
        self.blobs: dict[str, tuple[int, bytes]] = {}
        self.rows: dict[tuple[str, str], dict[bytes, bytes]] = {}
        self.frames: dict[tuple[str, str], list[Keyframe]] = {}
        self.acks: dict[tuple[str, str, str], int] = {}
        self.age: AgeNote | None = None
        self.shared = b""
        self.passed: tuple[Passed, ...] = ()

    def add(self, group: Group) -> None:
        """Apply one commit."""
        self.events += group.events
        self.types.update(event.type for event in group.events)
        for event in group.events:
            self.streams.setdefault(event.stream, []).append(event)
        for change in group.changes:
            self._apply(change)

    def _apply(self, change: Change) -> None:
        match change:
            case PutRow(row):
                self.rows.setdefault((row.table, row.part), {})[row.key] = row.value
            case DropRow(drop) if drop.key is None:
                self.rows.pop((drop.table, drop.part), None)
            case DropRow(drop):
                assert drop.key is not None
                self.rows.get((drop.table, drop.part), {}).pop(drop.key, None)
            case PutBlob(id=name, packed=packed):
                self.blobs[name] = (self.blobs.get(name, (0, b""))[0] + 1, packed)
            case DropBlob(id=name):
                refs, packed = self.blobs.pop(name, (0, b""))
                if refs > 1:
                    self.blobs[name] = (refs - 1, packed)
            case PutKey(owner, wrapped):
                self.keys[owner] = wrapped
            case PutSealed(owner, name, box):
                self.sealed.setdefault(owner, {})[name] = box
            case DropSealed(owner, name):
                self.sealed.get(owner, {}).pop(name, None)
            case Shred(owner):
                self.keys.pop(owner, None)
                self.sealed.pop(owner, None)
            case Prune(positions, firsts):
                self._prune(frozenset(positions))
                self.firsts.update(firsts)
            case EndStream(stream):
                if stream in self.streams:
                    self.ended.add(stream)
            case ForgetUser(user, streams):
                self.commands = {k: v for k, v in self.commands.items() if k.user != user}
                self.acks = {k: v for k, v in self.acks.items() if k[0] != user}
                self.frames = {k: v for k, v in self.frames.items() if k[0] not in streams}
            case PutCounter(counter, following):
                self.counters[counter] = max(following, self.counters.get(counter, 1))
            case PutCommand(record, at_ms):
                self.commands[record.key] = record
                self.command_times[record.key] = at_ms
            case PutAcks(acks):
                for ack in acks:
                    key = (ack.user, ack.client, ack.stream)
                    self.acks[key] = max(ack.seq, self.acks.get(key, 0))
            case PutKeyframe(frame):
                self._keep(frame)
            case PutAge(age):
                self.age = age
            case PutPassed(shared, passed):
                self.shared = shared
                self.passed = (*self.passed, *passed)[-PASSED_KEPT:]
            case Touch():
                pass

    def _prune(self, positions: frozenset[int]) -> None:
        gone = [event for event in self.events if event.position in positions]
        stones = [Tombstone(event.position, event.stream, event.seq, event.chain) for event in gone]
        self.pruned = sorted(self.pruned + stones, key=position)
        self.events = [event for event in self.events if event.position not in positions]
        for stream in {event.stream for event in gone}:
            kept = self.streams[stream]
            self.streams[stream] = [event for event in kept if event.position not in positions]

    def _keep(self, frame: Keyframe) -> None:
        place = (frame.stream, frame.fold)
        frames = {f.seq: f for f in self.frames.get(place, ()) if f.fingerprint == frame.fingerprint}
        frames[frame.seq] = frame
        seqs = sorted(frames)
        first_of_span = {seq // KEYFRAME_SPAN: seq for seq in reversed(seqs) if seq >= KEYFRAME_SPAN}
        kept = {*seqs[-KEYFRAMES_KEPT:], *first_of_span.values()}
        self.frames[place] = [frames[seq] for seq in seqs if seq in kept]


def position(one: StoredEvent | Tombstone) -> int:
    """The order of the log."""
    return one.position
