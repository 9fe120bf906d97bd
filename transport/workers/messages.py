"""What the owner of a service and a worker say to each other. Pure.

Each message is one MessagePack array whose first element is its tag. Questions have a number `n`, and each
gets one `Answer`, `Told` or `Failed` with it. Both sides are of one build: a worker is started by its owner.
"""

from typing import Any, Final

import msgspec

from huahuo.actors.plugins.principal import Principal, UserId
from huahuo.actors.plugins.words import Catalogue
from huahuo.eventstore.model import Head, Joined, Page
from huahuo.transport.access.verified import AuthFailure, Verified
from huahuo.transport.protocol.limits import TransportSettings
from huahuo.transport.workers.columns import Columns


class _Said(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=True):
    """One message."""


# From the owner to a worker ---------------------------------------------------------------------------


class ActionFacts(msgspec.Struct, frozen=True, array_like=True):
    """What a session must know of a registered action."""

    action: str
    query: bool
    compressible: bool


class Hello(_Said, frozen=True, gc=True):
    """The first message: all that a worker needs to serve. `dictionary` is what it compresses with."""

    number: int
    settings: TransportSettings
    log_id: str
    position: int
    chain: bytes
    fingerprint_key: bytes
    dictionary: bytes
    language: str
    trusted_proxies: tuple[str, ...]
    tail_events_max: int
    tail_bytes_max: int
    actions: tuple[ActionFacts, ...]
    snapshots: tuple[str, ...]
    judges: tuple[str, ...]
    judges_others: bool
    right_types: tuple[str, ...]
    words: Catalogue
    has_tongues: bool
    shared_log: bool
    log_level: str
    log_json: bool


class Commit(_Said, frozen=True):
    """Newly durable events, in the order of the log."""

    events: Columns


class Pruned(_Said, frozen=True):
    """Events were pruned: the first seq of any stream may have changed."""


class Answer(_Said, frozen=True):
    """The answer to a question, whose type the asker knows."""

    n: int
    value: msgspec.Raw


class Told(_Said, frozen=True):
    """The answer to a call. None as `body`: the service stops and cut it short.

    `parted`: not 0 for a query whose real answer is made part by part (`Part`, `Piece`).
    """

    n: int
    body: bytes | None
    at: tuple[str, int] | None = None
    recorded: bool = False
    duplicate: bool = False
    parted: int = 0


class Failed(_Said, frozen=True):
    """A question has no answer. `kind` is the name of the error (`failures`)."""

    n: int
    kind: str
    text: str


class CloseIt(_Said, frozen=True):
    """Close a connection."""

    connection: int
    code: int
    reason: str


class Rejudge(_Said, frozen=True):
    """Judge again who may read a stream (None: any), of this user (None: all)."""

    stream: str | None
    user_id: UserId | None


class AskPositions(_Said, frozen=True):
    """Tell the position of each connection."""

    n: int


class AskMetrics(_Said, frozen=True):
    """Tell the metrics."""

    n: int


class Drain(_Said, frozen=True):
    """Close all connections, then end."""

    timeout_s: float


class Beat(_Said, frozen=True):
    """A sign of life, in both directions."""


# From a worker to the owner ---------------------------------------------------------------------------


class Ready(_Said, frozen=True):
    """The worker listens."""


class Enter(_Said, frozen=True):
    """A client of this address wants to connect. Answer: the value of an `Entry`."""

    n: int
    address: str


class Left(_Said, frozen=True):
    """A connection of this address is gone."""

    address: str


class Verify(_Said, frozen=True):
    """Judge a token."""

    n: int
    token: str

    def __repr__(self) -> str:
        return f"Verify({self.n}, '[hidden]')"


class AuthFailed(_Said, frozen=True):
    """A token was refused. Answer: for how long the client's answer is to be held back, in s."""

    n: int
    address: str


class Join(_Said, frozen=True):
    """A connection authenticated. Answer: whether its user may have one more."""

    n: int
    connection: int
    verified: Verified
    client: str


class Refreshed(_Said, frozen=True):
    """A connection has a new token."""

    connection: int
    verified: Verified


class Parted(_Said, frozen=True):
    """A connection that joined is gone, or about to be."""

    connection: int


class Acks(_Said, frozen=True):
    """Positions that clients processed: user, client, stream, seq."""

    acks: list[tuple[str, str, str, int]]


class Ask(_Said, frozen=True):
    """A command or query; `key`: its client and id, if it must have at most one effect."""

    n: int
    principal: Principal
    session: str
    action: str
    fields: dict[str, Any]
    command_id: str
    key: tuple[str, str] | None
    fingerprint: bytes

    def __repr__(self) -> str:
        return f"Ask({self.n}, {self.action})"


class Cancel(_Said, frozen=True):
    """The answer to this question is not wanted any more. Commands go on all the same."""

    n: int


class Judge(_Said, frozen=True):
    """May this user read this stream?"""

    n: int
    principal: Principal
    stream: str


class Links(_Said, frozen=True):
    """Read links of the chain. A seq of 0 asks for the head of a stream instead. Answer: `LinksFound`."""

    n: int
    places: list[tuple[str, int]]


class CatchUp(_Said, frozen=True):
    """Wait for places that may be ahead of this node only. Answer: whether that is settled."""

    n: int
    places: list[tuple[str, int]]


class Read(_Said, frozen=True):
    """Read events. Answer: `Columns`."""

    n: int
    page: Page


class ReadJoined(_Said, frozen=True):
    """Read pages. Answer: a list of `Joined` or None."""

    n: int
    pages: list[Page]


class Snapshot(_Said, frozen=True):
    """The state of a stream. Answer: `SnapshotTaken`."""

    n: int
    stream: str


class Part(_Said, frozen=True):
    """A part of an answer or state (`actors.plugins.calls.Parted`). Answer: text, where the next begins."""

    n: int
    parted: int
    start: int
    bytes_max: int


class Piece(_Said, frozen=True):
    """The next bytes of the whole. Answer: text, empty at the end."""

    n: int
    parted: int


class Release(_Said, frozen=True):
    """An answer or state in parts is not needed any more."""

    parted: int


class Given(_Said, frozen=True):
    """A socket that the owner must serve comes over the other Unix socket, under this number."""

    number: int
    data: bytes


class LinksFound(msgspec.Struct, frozen=True, array_like=True):
    """The answer to `Links`: the links in order, and the heads of the streams that were asked for."""

    links: list[bytes | None]
    heads: dict[str, Head]


class SnapshotTaken(msgspec.Struct, frozen=True, array_like=True):
    """The state after event `seq`; `parted` not 0: made part by part."""

    seq: int
    state: bytes
    parted: int = 0


type FromOwner = (
    Hello | Commit | Pruned | Answer | Told | Failed | CloseIt | Rejudge | AskPositions | AskMetrics | Drain
    | Cancel | Beat
)  # fmt: skip
type FromWorker = (
    Ready | Enter | Left | Verify | AuthFailed | Join | Refreshed | Parted | Acks | Ask | Cancel | Judge
    | Links | CatchUp | Read | ReadJoined | Snapshot | Part | Piece | Release | Given | Answer | Beat
)  # fmt: skip

FROM_OWNER: Final = msgspec.msgpack.Decoder(FromOwner.__value__)
FROM_WORKER: Final = msgspec.msgpack.Decoder(FromWorker.__value__)
encode: Final = msgspec.msgpack.Encoder().encode

type JoinedPages = list[Joined | None]
type TokenVerdict = Verified | AuthFailure


class Judged(msgspec.Struct, frozen=True, array_like=True):
    """The answer to `Verify`: one of the two."""

    verified: Verified | None
    failure: AuthFailure | None

    @property
    def verdict(self) -> TokenVerdict:
        """The verdict."""
        verdict = self.verified or self.failure
        assert verdict is not None, "the owner answers with one of the two"
        return verdict
