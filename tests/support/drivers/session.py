"""A session without a socket: a model log, a clock, and a shell that executes its outputs.

`Driver` does for a `Session` what the connection does, at once and in order, and keeps every message
that would have been written. Nothing in it decides what the protocol means.
"""

import struct
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.calls import Call, Principal, Reply
from huahuo.actors.plugins.words import Words
from huahuo.eventstore.model import LOG_STREAM, Head, Joined, Secret, StoredEvent
from huahuo.transport.access.rights import AuthFailure, Judged, Verified
from huahuo.transport.protocol.codes import AuthCode
from huahuo.transport.protocol.dialects import V1, Compression, Dialect
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.frames import PING, FrameCache, text_frame
from huahuo.transport.protocol.kinds import ONLY, Part
from huahuo.transport.server.fanout import FanOut
from huahuo.transport.session import outgoing
from huahuo.transport.session.delivery_states import Subscription
from huahuo.transport.session.interface import (
    Acked,
    Alarm,
    Close,
    Execute,
    LookUp,
    Now,
    Output,
    Record,
    Shared,
    TakeSnapshot,
    Unwatch,
    Verify,
    Watch,
)
from huahuo.transport.session.session import Session
from huahuo.transport.words import en, zh
from tests.support.worlds.compressed import unpacked
from tests.support.worlds.people import ALICE, BOB, ROOT

START_MS = 1_790_000_000_000
PEOPLE = {
    "alice": ALICE,
    "alice-no-groups": Principal(user_id=42, username="alice"),
    "bob": BOB,
    "root": ROOT,
}

type Message = dict[str, Any]

WORDS = Words()
WORDS.add(zh, en)


class Run(msgspec.Struct, frozen=True):
    """As `huahuo.replay.feed.Run`."""

    after: int
    events: tuple[StoredEvent, ...] = ()
    skipped_to: int = 0
    joined: Joined | None = None


class ModelLog:
    """Streams as lists. `pruned` holds each stream's last seq that is gone, `holes` what was compacted.

    Events have the `link` that they are given, none by default. `forgetful`: heads do not tell theirs, as
    after opening a log.
    """

    forgetful = False

    def __init__(self, log_id: str = "log-1") -> None:
        self.log_id = log_id
        self.streams: dict[str, list[StoredEvent]] = {LOG_STREAM: []}
        self.pruned: dict[str, int] = {}
        self.holes: dict[str, tuple[int, int]] = {}

    def head(self, stream: str) -> Head:
        events = self.streams.get(stream, [])
        link = b"" if self.forgetful or not events else events[-1].chain
        return Head(self.pruned.get(stream, 0) + 1, len(events), link)

    def link(self, stream: str, seq: int) -> bytes:
        """The link of an event, as the store would tell it."""
        events = self.streams.get(stream, ())
        return events[seq - 1].chain if self.pruned.get(stream, 0) < seq <= len(events) else b""

    def append(
        self, stream: str, text: str = "", *, principal: str = "", command_id: str = "", pad: int = 0
    ) -> StoredEvent:
        seq = len(self.streams.get(stream, ())) + 1
        body: Message = {
            "type": "noted",
            "text": text or f"{stream}:{seq}",
            "timestamp": "2026-11-24T10:00:00Z",
        }
        if pad:
            body["pad"] = "x" * pad
        return self.append_body(stream, body, principal=principal, command_id=command_id)

    def append_body(
        self, stream: str, body: Message, *, principal: str = "", command_id: str = "", link: bytes = b""
    ) -> StoredEvent:
        events, everything = self.streams.setdefault(stream, []), self.streams[LOG_STREAM]
        event = StoredEvent(
            len(everything) + 1, stream, len(events) + 1, body["type"], msgspec.json.encode(body), 1,
            START_MS, "", principal, command_id, 0, "", link,
        )  # fmt: skip
        events.append(event)
        everything.append(event)
        return event

    def prune(self, stream: str, to: int) -> None:
        """Everything up to `to` is gone."""
        self.pruned[stream] = to

    def compact(self, stream: str, after: int, to: int) -> None:
        """The events `after + 1` … `to` are gone."""
        self.holes[stream] = (after, to)

    def run(self, stream: str, after: int, events_max: int) -> Run:
        gone_after, gone_to = self.holes.get(stream, (-1, -1))
        if gone_after <= after < gone_to:
            return Run(after, skipped_to=gone_to)
        until = after + events_max
        if after < gone_after:
            until = min(until, gone_after)
        return Run(after, tuple(self.streams.get(stream, [])[after:until]))

    def page(self, stream: str, after: int, events_max: int) -> Run:
        """As `run`, with the bodies joined."""
        run = self.run(stream, after, events_max)
        if not run.events:
            return run
        return Run(after, joined=Joined(after + 1, len(run.events), b",".join(e.body for e in run.events)))


class Driver:
    """One connection, and a fan-out of its own whose lane it is.

    `sent` holds the messages not yet taken, `closed` the close once it came. With `by_page`, what the
    session is behind with comes as joined pages where it joins, each when `page_comes`.
    """

    def __init__(
        self,
        log: ModelLog | None = None,
        *,
        dialect: Dialect = V1,
        settings: TransportSettings | None = None,
        commands: Sequence[Action] = (),
        compression: Compression | None = None,
        now_ms: int = START_MS,
        by_page: bool = False,
        verdicts: Mapping[str, bool | None] | None = None,
        fingerprint_key: bytes = b"key",
        catch_up: Callable[[], bool] | None = None,
    ) -> None:
        """`verdicts`: what the application says of streams `order/…`; None: not in time.

        `catch_up`: other nodes write the log, and this is called when what they wrote is waited for.
        """
        self.catch_up = catch_up
        self.verdicts = dict(verdicts or {})
        self.judged: list[tuple[str, ...]] = []
        self.log = log or ModelLog()
        self.settings = settings or TransportSettings()
        self._compression = compression
        self.now = Now(0.0, now_ms)
        self.ttl_s: float = 3600
        self.leaving = 10_000
        self.short_ways = True
        self.quick_acks = 0
        """Acks that differed from the one before them in the number only."""
        self.sent: list[Message] = []
        self.watched: set[str] = set()
        self.acked: dict[str, int] = {}
        self.alarms: list[Alarm] = []
        self.lookups: list[tuple[str, int]] = []
        self.executing: list[Execute | Record] = []
        self.snapshots_due: list[TakeSnapshot] = []
        self.pings = 0
        self.binary: list[bytes] = []
        """Every binary frame that was written."""
        self.closed: Close | None = None
        self.by_page = by_page
        self.pages: deque[tuple[Subscription, int, int]] = deque()
        """Asked for: behind which seq, and how many events."""
        self.hold_snapshots = False
        self.hold_events = False
        self.admitted = True
        self.shared = Shared(
            settings=self.settings,
            log=self.log,
            frames=FrameCache(bytes_max=1 << 20, frame_bytes_max=self.settings.frame_bytes_max),
            commands={spec.action: spec for spec in commands},
            fingerprint_key=fingerprint_key,
            compression=compression,
            judged=Judged() if verdicts is None else Judged(frozenset({"order"})),
            shared_log=catch_up is not None,
            words=WORDS,
            leaving=lambda: self.leaving,
        )
        self.session = Session("s-1", dialect, self.shared, self.now)
        self.fanout = FanOut(
            self.shared.frames, events_max=self.settings.frame_events_max, monotonic_s=lambda: self.now.s
        )
        self.told = self.log.head(LOG_STREAM).seq
        """The fan-out has heard of the log up to here."""

    # What the client does

    def say(self, **message: Any) -> list[Message]:
        """Send a message and take the answers."""
        return self.say_raw(msgspec.json.encode(message))

    def say_raw(self, data: str | bytes) -> list[Message]:
        self.carry_out(self._heard(data))
        return self.take()

    def _heard(self, data: str | bytes) -> Sequence[Output]:
        """As a connection: an ack goes the shortest way that takes it."""
        if isinstance(data, bytes) and self.short_ways:
            seq = self.session.acked_again(data, self.now.s)
            if seq >= 0:
                self.quick_acks += 1
                return [Acked(self.session.acked_stream, seq)]
            acked = self.session.acked(data, self.now.s)
            if acked is not None:
                return acked
        return self.session.received(data, self.now)

    def login(self, who: str = "alice", **fields: Any) -> Message:
        """Authenticate, and return the result; what follows it stays in `sent`."""
        answers = self.say(action="authenticate", token=who, **fields)
        self.sent = answers[1:]
        return answers[0]

    def ack(self, **cursors: int) -> list[Message]:
        """Ack; `user_42` stands for `user/42`."""
        return self.say(action="ack", cursors={name.replace("_", "/"): seq for name, seq in cursors.items()})

    # What the world does

    def append(self, stream: str, *texts: str, **more: Any) -> list[Message]:
        """Commit events, one commit, and take what the client is sent."""
        for text in texts:
            self.log.append(stream, text, **more)
        self.wake(stream)
        return self.take()

    def wake(self, *streams: str) -> None:
        """What was committed since the last time is told as one commit; `streams` may have moved too."""
        new = self.log.streams[LOG_STREAM][self.told :]
        self.told += len(new)
        if new:
            by_stream = {event.stream: [one for one in new if one.stream == event.stream] for event in new}
            self.fanout.committed({**by_stream, LOG_STREAM: new})
        for stream in streams:
            if stream in self.watched:
                self.woken(stream)

    # As a lane

    def has_room(self) -> bool:
        return not self.hold_events

    def write_events(self, frame: bytes, _count: int) -> None:
        self.write(frame)

    def direct(self, _leave: Callable[[], None]) -> None:
        """Frames go by `write_events`. `drivers.direct` has sockets."""

    def on_its_own(self) -> None:
        raise AssertionError("it was in no cohort")

    def count_written(self, events: int, size_bytes: int) -> None:
        raise AssertionError("it was in no cohort")

    def woken(self, stream: str) -> None:
        self.session.woken(stream)
        self.pump()

    def failed(self) -> None:
        raise AssertionError("a driver does not fail")

    def hold(self, stream: str) -> None:
        self.session.hold(stream)

    def verdict(self, stream: str, *, readable: bool) -> list[Message]:
        """A late verdict of the application."""
        self.carry_out(self.session.judged(stream, readable=readable))
        return self.take()

    def reply(
        self,
        body: Message | None = None,
        *,
        at: tuple[str, int] | None = None,
        duplicate: bool = False,
        index: int = 0,
        part: Part = ONLY,
    ) -> list[Message]:
        """Answer the call that waits longest (or the one at `index`), or give a part of the answer."""
        asked = self.executing[index] if part.more else self.executing.pop(index)
        encoded = msgspec.json.encode(body or {"type": "success", "message": "ok"})
        reply = asked.reply if isinstance(asked, Record) else Reply(encoded, at, duplicate=duplicate)
        say = self.session.replied_part if part.more else self.session.replied
        self.carry_out(say(asked, reply, part))
        return self.take()

    def give_snapshot(
        self, seq: int, state: bytes | None = b'{"emails":[]}', part: Part = ONLY
    ) -> list[Message]:
        """None: a state that is too long."""
        due = self.snapshots_due[0] if part.more else self.snapshots_due.pop(0)
        self._give(due, seq, state, part)
        return self.take()

    def _give(self, due: TakeSnapshot, seq: int, state: bytes | None, part: Part = ONLY) -> None:
        link = self.log.link(due.sub.stream, seq) if self.session.frame_kind.checked else b""
        said = b"" if state is None else outgoing.snapshot(due.sub.stream, seq, state, link, part)
        too_long = not said or len(said) > self.settings.reply_bytes_max
        compression = self._compression if self.session.frame_kind.compressed else None
        framed = text_frame if compression is None else compression.frame
        frame = None if too_long else framed(said)
        self.carry_out(self.session.snapshot(due.sub, seq, frame, more=part.more))

    def after(self, seconds: float, *, heard: bool = True) -> list[Message]:
        """Let time go by (the client answers pings unless `heard` is False), then tick."""
        self.now = Now(self.now.s + seconds, self.now.ms + round(seconds * 1000))
        if heard:
            self.session.heard(self.now.s)
        self.carry_out(self.session.tick(self.now))
        return self.take()

    def take(self) -> list[Message]:
        taken, self.sent = self.sent, []
        return taken

    # The shell

    def verify(self, token: str) -> Verified | AuthFailure:
        """Tokens are names; `alice+7` is valid for 7 s; `expired`, `revoked`: as they say."""
        if token in ("expired", "revoked"):
            return AuthFailure(AuthCode(f"token_{token}"))
        name, _, ttl = token.partition("+")
        if name not in PEOPLE:
            return AuthFailure(AuthCode.TOKEN_INVALID)
        ttl_s = float(ttl) if ttl else self.ttl_s
        return Verified(PEOPLE[name], self.now.ms + round(ttl_s * 1000))

    def carry_out(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            assert self.closed is None, "nothing follows a close"
            self._carry_out(output)
        self.pump()

    def _carry_out(self, output: Output) -> None:
        match output:
            case bytes():
                self.write(output)
            case Verify():
                verdict = self.verify(output.token)
                self.carry_out(self.session.verdict(verdict, self.now, admitted=self.admitted))
            case LookUp():
                settled = self.catch_up is not None and self.catch_up()
                links = {place: link for place in output.places if (link := self.log.link(*place))}
                if settled:
                    links = dict.fromkeys(output.places, b"") | links
                self.lookups += output.places
                self.judged += [output.judge] if output.judge else []
                verdicts = {stream: self.verdicts[stream] for stream in output.judge}
                self.carry_out(self.session.looked_up(links, self.now, verdicts))
            case Execute() | Record():
                self.executing.append(output)
            case Watch():
                self.watched.add(output.stream)
                self.fanout.join(output.stream, self)
            case Unwatch():
                self.watched.remove(output.stream)
                self.fanout.leave(output.stream, self)
            case TakeSnapshot():
                if self.hold_snapshots:
                    self.snapshots_due.append(output)
                else:
                    self._give(output, self.log.head(output.sub.stream).seq, b'{"emails":[]}')
            case Acked():
                self.acked[output.stream] = max(self.acked.get(output.stream, 0), output.seq)
            case Alarm():
                self.alarms.append(output)
            case Close():
                self.closed = output
                for stream in self.watched:
                    self.fanout.leave(stream, self)
                self.watched.clear()

    def pump(self) -> None:
        """Read and send what the session wants, in its order."""
        while not self.hold_events:
            sub = self.session.next_read()
            if sub is None:
                lag = self.session.stalled(self.now.s)
                if lag is not None:
                    self.write(lag)
                return
            after, delivery = sub.flow.sent, self.session.delivery
            if self.by_page and delivery.joins(sub):
                delivery.park(sub)
                assert delivery.next_fetch() is sub
                self.pages.append((sub, after, self.session.page_events_max(sub)))
            else:
                self._took(sub, self.log.run(sub.stream, after, self.session.read_events_max(sub)))

    def page_comes(self) -> list[Message]:
        """The page that was asked for first is read, with what was committed meanwhile, and here."""
        sub, after, events_max = self.pages.popleft()
        self._took(sub, self.log.page(sub.stream, after, events_max))
        self.pump()
        return self.take()

    def _took(self, sub: Subscription, run: Run) -> None:
        for frame in self.session.took(sub, run, self.now.s):
            self.write(frame)

    def write(self, data: bytes) -> None:
        """As the shell: `data` goes to the client."""
        if data == PING:
            self.pings += 1
        elif data[0] == BINARY:
            self.binary.append(data)
            self.sent.append(msgspec.json.decode(unpacked(payload_of(data))))
        else:
            self.sent += [msgspec.json.decode(payload) for payload in payloads(data)]


BINARY = 0x82


def payload_of(frame: bytes) -> bytes:
    """The payload of one whole binary frame."""
    assert frame[0] == BINARY
    (payload,) = payloads(b"\x81" + frame[1:])
    return payload


def payloads(data: bytes) -> list[bytes]:
    """The payloads of the unmasked text frames that `data` consists of."""
    found: list[bytes] = []
    while data:
        assert data[0] == 0x81, "a whole text frame"
        size, head = data[1], 2
        assert size < 0x80, "a server does not mask"
        if size == 126:
            (size,), head = struct.unpack("!H", data[2:4]), 4
        elif size == 127:
            (size,), head = struct.unpack("!Q", data[2:10]), 10
        assert len(data) >= head + size, "the frame is complete"
        found.append(data[head : head + size])
        data = data[head + size :]
    return found


def types(messages: Sequence[Message]) -> list[str]:
    return [message["type"] for message in messages]


def seqs(messages: Sequence[Message], stream: str) -> list[int]:
    """The seqs of the events of `stream` in these messages."""
    found: list[int] = []
    for message in messages:
        if message.get("stream") == stream and message["type"] == "events":
            found += range(message["seq"], message["seq"] + len(message["events"]))
        elif message.get("stream") == stream and message["type"] == "noted":
            found.append(message["seq"])
    return found


def texts(messages: Sequence[Message]) -> list[str]:
    return [
        event["text"] for message in messages if message["type"] == "events" for event in message["events"]
    ]


class Note(msgspec.Struct, frozen=True):
    """The fields of the tests' own command."""

    text: str
    email_id: int = 0
    password: Secret | None = None


async def never(_call: Call[Any]) -> Reply:
    raise AssertionError("the driver answers calls by itself")


def note_command(action: str = "note", *, query: bool = False) -> Action:
    return Action(action, Note, never, query=query)
