"""What a run records, whoever runs it: what was asked, what clients applied, what was done to it.

Times are seconds of the run's own clock. A nonce is in the body of every event that a run asks for, so that a
place that was lost and used again is seen.
"""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Literal

type Answer = Literal["ok", "fail", "info"]
"""`ok`: acknowledged. `fail`: refused, nothing was written. `info`: nobody knows."""


@dataclass(slots=True)
class Asked:
    """A command of a client that should write one event with this nonce."""

    client: str
    user: int
    nonce: str
    stream: str
    answer: Answer = "info"
    seq: int = 0
    command: str = ""
    replies: list[str] = field(default_factory=list)
    """What each attempt with this command id was answered."""
    line: int = 0
    """The order in which one sender asked."""


@dataclass(slots=True, frozen=True)
class Applied:
    """An event as a client applied it. `kind`: `event`, or why the client began anew at `seq`.

    `kind` is `event`, `place` (a resume begins behind `seq`), `snapshot`, `skipped` or `reset`; `had`: a
    client says that it has everything up to `seq`, whether that is true or not.
    """

    stream: str
    seq: int
    kind: str = "event"
    type: str = ""
    nonce: str = ""
    at_s: float = 0.0
    log: str = ""
    digest: str = ""
    """Of the whole body as the client got it."""
    way: str = ""
    """How it came, such as `zstd`."""


@dataclass(slots=True)
class Follower:
    """What one subscription of one client applied. `live`: it should converge at the end."""

    client: str
    user: int
    stream: str
    applied: list[Applied] = field(default_factory=list)
    live: bool = True
    may: bool = True
    """Whether the user may read the stream."""


@dataclass(slots=True, frozen=True)
class Fact:
    """An event of the final log, as much as the checkers need."""

    position: int
    stream: str
    seq: int
    type: str
    nonce: str
    command: str = ""
    chain: bytes = b""
    digest: str = ""
    at_s: float = 0.0
    """When the log says that it was written, by the clock of the run."""


@dataclass(slots=True)
class Door:
    """A connection of a client. `until_s`: when its token ended, or its user was revoked."""

    client: str
    until_s: float = math.inf
    before: list[str] = field(default_factory=list)
    """What it was given before it was authenticated."""
    got: list[tuple[str, int]] = field(default_factory=list)
    """The (stream, seq) of the events that it was given."""


@dataclass(slots=True, frozen=True)
class Erased:
    """What was erased. `forms`: its key and its sealed text. `opened`: somebody could open it afterwards."""

    what: str
    forms: tuple[bytes, ...] = ()
    opened: bool = False


@dataclass(slots=True)
class Hook:
    """A webhook at the end. `due`: the events that it was for; `accepted`: those that its receiver took."""

    name: str
    number: int = 0
    since: int = 0
    added: int = 0
    """The position of the event that made it: from there on it must get everything."""
    """It is for what is behind this position of the log."""
    streams: tuple[str, ...] = ()
    due: set[tuple[str, int]] = field(default_factory=set)
    accepted: set[tuple[str, int]] = field(default_factory=set)
    may: set[tuple[str, int]] = field(default_factory=set)
    """All events that it may be given."""
    false: list[str] = field(default_factory=list)
    """What its receiver was sent and must not be, such as a body without its signature."""


@dataclass(slots=True)
class Followed:
    """What a follower of the application wrote down."""

    name: str
    kinds: tuple[str, ...]
    got: list[tuple[int, str, int]]
    """(position, stream, seq) of each event."""
    due: int = 0
    """All up to this position must be there."""
    repeats: bool = False
    """Whether a crash may bring the last ones again."""


@dataclass(slots=True)
class History:
    """Everything that a run recorded."""

    asked: list[Asked] = field(default_factory=list)
    followers: list[Follower] = field(default_factory=list)
    looks: list[tuple[int, bytes]] = field(default_factory=list)
    """(position, link of the chain) as the log said at some time."""
    acks: list[dict[tuple[str, str, str], int]] = field(default_factory=list)
    """The stored acks, each time a service started."""
    counts: Counter[str] = field(default_factory=Counter)
    """What happened: `crash`, `reconnect`, …"""
    writers: list[tuple[str, str]] = field(default_factory=list)
    """(`open` or `close`, life) of writers, in order; a refused one is not there."""
    drains_s: list[float] = field(default_factory=list)
    healed_s: float = 0.0
    """When all faults ended."""
    ended_s: float = 0.0
    """When everything had come to rest, or the run gave up waiting."""
    log: list[Fact] = field(default_factory=list)
    """The final log."""
    heads: dict[str, int] = field(default_factory=dict)
    """The heads when the run stopped waiting for its clients; empty: those of the final log."""
    log_id: str = ""
    shown: list[tuple[int, str]] = field(default_factory=list)
    """(user, what a client of that user got), for the scan for canaries."""
    canaries: dict[str, int] = field(default_factory=dict)
    """A text that only this user may see; user 0: nobody."""
    folded: list[tuple[str, str, str]] = field(default_factory=list)
    """(entity, state of the service, state that follows from the log)."""
    open_work: list[str] = field(default_factory=list)
    """Effects and timers that are due and still open at the end."""
    mails: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)
    """By mailbox: nonces of the mails that lie on the server, and of those that were told."""
    followed: list[Followed] = field(default_factory=list)
    base_lines: list[tuple[str, float, float]] = field(default_factory=list)
    """(what, before the storm, after it), such as tasks and timers."""

    secrets: list[str] = field(default_factory=list)
    places: dict[str, bytes] = field(default_factory=dict)
    """All that was written or given out, by where it was."""
    erased: list[Erased] = field(default_factory=list)
    after_erasure: dict[str, bytes] = field(default_factory=dict)
    """All raw files after the last erasure."""
    doors: list[Door] = field(default_factory=list)
    rotations: list[tuple[str, str, str]] = field(default_factory=list)
    """(account, `kept` when the token is durable or `used` when it is relied on, refresh token), in order."""
    refreshes: list[tuple[str, int, str]] = field(default_factory=list)
    """(account, life of the service, what) of requests at a token server, in order. What: `begun`, `over`, or
    `unheard` if that life is over, or its node was silent for so long that others may take it for dead."""
    grants: list[tuple[str, bool, bool]] = field(default_factory=list)
    """(account, whether its server ended the grant, whether it signed in when all faults were over)."""
    nodes: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    """By node: (position, link of the chain) as it lies there."""
    node_served: list[tuple[str, int, bytes]] = field(default_factory=list)
    """(node, position, link of the chain) of what a node gave to somebody."""
    hooks: list[Hook] = field(default_factory=list)
    reads: list[tuple[str, bytes, bytes | None]] = field(default_factory=list)
    """(place, what was written there, what was served after damage; None: it was refused)."""

    def by_place(self) -> dict[tuple[str, int], Fact]:
        """The events of the final log by stream and seq."""
        return {(fact.stream, fact.seq): fact for fact in self.log}

    def by_nonce(self) -> dict[str, list[Fact]]:
        """The events of the final log by nonce."""
        found: defaultdict[str, list[Fact]] = defaultdict(list)
        for fact in self.log:
            if fact.nonce and not fact.nonce.startswith("#"):  # a digest: nobody gave it a nonce
                found[fact.nonce].append(fact)
        return found
