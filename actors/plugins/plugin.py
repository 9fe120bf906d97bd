"""The interface of a plug-in. Mail is one (`huahuo.mailcheck.mail`), and uses nothing that others cannot.

Before the service serves, it calls `bring` of each plug-in once, registers what that brings, and awaits
`Brought.start`. When it stops, no client can reach it any more; then it awaits `Brought.close`. `Jobs`:
work that a user watches as `job/<id>` and may cancel; the entities provide them. `Lending`: places at
something that has room for a few, such as connections to one mail server, over all nodes: of several nodes
one gives places, and the others ask it. `Projection`: what a plug-in keeps next to the log and can make
anew from it.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct

from huahuo.actors.entities.decider import Decider
from huahuo.actors.entities.directory import Directory
from huahuo.actors.entities.entity import Effects, Fairness
from huahuo.actors.entities.rendezvous_hash import Share
from huahuo.actors.plugins.actions import Action, HttpRoute, LiveList, MayRead, SnapshotOf, Tongue
from huahuo.actors.plugins.calls import Principal, UserId
from huahuo.actors.plugins.past import Past
from huahuo.actors.plugins.resolver import Names, Resolver
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.port import Log
from huahuo.eventstore.verdict import Rule
from huahuo.replay.feed import Feed, Today

type JobOutcome = Literal["done", "failed", "cancelled", "interrupted"]


class Jobs(Protocol):
    """What a plug-in may do with jobs."""

    async def begin(self, name: str, user: UserId | None) -> int:
        """Begin a job that this user may read and cancel, and return its id."""
        ...

    async def progress(self, job_id: int, percent: float, message: str) -> bool:
        """Say how far it is, 0 to 100. False: it has ended."""
        ...

    async def end(self, job_id: int, outcome: JobOutcome, message: str = "") -> None:
        """End it; a second end changes nothing. An end that cannot be written raises, and is tried again."""
        ...

    def watch(self, job_id: int, cancelled: Callable[[], None]) -> Callable[[], None]:
        """Call `cancelled` once somebody cancels this job; the result ends that."""
        ...


@dataclass
class JobDoor:
    """The jobs of a service, for plug-ins that are brought before the one that provides them."""

    jobs: Jobs | None = None


type Place = AbstractAsyncContextManager[None]
type Take = Callable[[str, int, bool], Place]
"""Takes one of the places with this key; the number says how many there are. True: it is in use already, so
it counts at once, also over the bound."""


class OverNodes(Protocol):
    """The places of all nodes."""

    def borrowed(self, key: str, places_max: int) -> Place:
        """A place of those with this key. Entering waits until there is one."""
        ...


class Lending:
    """Places at something that has room for a few, such as connections to one mail server, over all nodes."""

    def __init__(self) -> None:
        self.over_nodes: OverNodes | None = None
        self._take: Take | None = None

    def lend(self, take: Take) -> None:
        """Say how a place of this process is taken.

        Raises:
            ValueError: another plug-in did.
        """
        if self._take is not None:
            raise ValueError("two plug-ins lend places")
        self._take = take

    def take(self, key: str, places_max: int, in_use: bool) -> Place:
        """A place of this process."""
        assert self._take is not None, "a plug-in has said how"
        return self._take(key, places_max, in_use)

    @property
    def lends(self) -> bool:
        """Whether a plug-in has places."""
        return self._take is not None

    def place(self, key: str, places_max: int) -> Place:
        """One of the `places_max` places with this key on all nodes together."""
        if self.over_nodes is None:
            return self.take(key, places_max, False)
        return self.over_nodes.borrowed(key, places_max)


class Standing(Struct, frozen=True):
    """Where a projection or follower stands. `lag`: events of the log behind its cursor."""

    name: str
    what: str
    cursor: int
    lag: int
    state: str
    dead_letters: int = 0
    error: str = ""


class Projection(Protocol):
    """A projection. `by` names the administrator who gave the command, as events name one: `user/1`."""

    def standing(self) -> Standing:
        """Where it stands."""
        ...

    async def pause(self, by: str, *, paused: bool) -> None:
        """Take up nothing more, or go on."""
        ...

    async def retry(self, by: str) -> int:
        """Try again what could not be taken up, and return how many events that are."""
        ...

    async def rebuild(self, by: str) -> None:
        """Forget everything and begin at the start of the log. Returns when that has begun."""
        ...


type Readers = Callable[[Any, Principal], bool]
"""Whether a user may read an entity with this state."""


class Gauges(Protocol):
    """Where a plug-in shows numbers of its own. `value` is called for each scrape."""

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show a number that rises and falls, as `huahuo_<name>`."""
        ...

    def total(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show a count that only rises, as `huahuo_<name>_total`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Host:
    """What a plug-in may use of the service. All of it belongs to the loop's thread."""

    log: Log
    directory: Directory
    feed: Feed
    ambient: Ambient
    executor: Executor
    fairness: Fairness
    """Each user's share of the time. Entities charge what they take by themselves."""
    wait_s: Callable[[UserId], float]
    """How long work for a user should wait before it begins, because the user has had more than a share."""
    metrics: Gauges
    projections: dict[str, Projection] = field(default_factory=dict)
    """By name: what is kept next to the log. A plug-in adds its own, and the service shows all of them."""
    jobs: JobDoor = field(default_factory=JobDoor)
    """Work that users watch and may cancel. There to be used when the service has started."""
    lending: Lending = field(default_factory=Lending)
    """Places at something that has room for a few, over all nodes."""
    files: Path | None = None
    """A folder for files that can be made anew from the log. None: there is none, so keep it in memory."""
    may_read: MayRead | None = None
    """Asks the application's `authorize`, None if it has none."""
    has_room: Callable[[UserId], bool] = lambda _user_id: True
    """Whether work that stores more for this user may begin by itself: not on a nearly full disk."""
    resolver: Resolver = field(default_factory=Names)
    """Gives the addresses of names that users choose."""
    settings: Any = None
    """The effective values of `Plugin.settings`, an instance of that struct."""
    shared: bool = False
    """Whether other nodes write the same log. Then nothing may run but between `Brought.work` and `rest`."""
    classic_ui: bool = False
    """Whether the service shows the front end of an older program, which may ask for routes of its own."""


def _no_effects(_key: str, effect: Any, _position: int) -> None:
    raise TypeError(f"nothing starts an effect {type(effect).__name__}")


@dataclass(frozen=True, kw_only=True)
class EntityKind:
    """A kind of entity: entity `key` folds the stream `<stream_prefix or name>/<key>`.

    `weigh` estimates the bytes of a state in memory. Without `readers`, only administrators may read the
    stream (a stream `user/<id>` is always readable by its user).
    """

    name: str
    decider: Decider[Any, Any, Any, Any]
    effects: Effects = _no_effects
    stream_prefix: str | None = None
    weigh: Callable[[Any], int] | None = None
    readers: Readers | None = None
    unjudged: bool = False
    """Whether `readers` lets administrators only, so that the application's `authorize` is asked instead."""
    today: Today | None = None
    """Shows events that are stored in an older version as today's, to all readers."""
    keyframe_every: int = 0
    """Events of a stream between two keyframes; 0: the bound of the service."""

    @property
    def streams(self) -> str:
        """The kind of its streams: `user` for a roster."""
        return self.stream_prefix or self.name


async def _nothing() -> None:
    pass


async def _not_divided(_share: Share) -> None:
    pass


async def _no_finalize(_by: str) -> None:
    pass


async def _no_drain(_timeout_s: float) -> None:
    pass


@dataclass(frozen=True)
class Forgotten:
    """What was removed of a user, in numbers, and which streams tell only of this user."""

    counts: Mapping[str, int] = field(default_factory=dict)
    streams: Sequence[str] = ()


async def _nothing_kept(_user_id: UserId) -> Forgotten:
    return Forgotten()


@dataclass(frozen=True, kw_only=True)
class Brought:
    """What a plug-in brings. All of it is optional."""

    kinds: Sequence[EntityKind] = ()
    actions: Sequence[Action] = ()
    snapshots: Mapping[str, SnapshotOf] = field(default_factory=dict)
    """By kind of stream. A kind has one source; of `user` see `user_snapshot`."""
    views: Mapping[str, SnapshotOf] = field(default_factory=dict)
    """By kind of stream, what those who follow its state see in place of its snapshot."""
    user_snapshot: SnapshotOf | None = None
    """A part of the snapshot of `user/<id>`. The parts of all plug-ins are merged by key (`snapshots`)."""
    guarded: frozenset[str] = frozenset()
    """Kinds of streams that only entities write: nobody can publish there."""
    right_types: frozenset[str] = frozenset()
    """Types of events after which the readers of their stream are judged again."""
    words: tuple[ModuleType, ModuleType] | None = None
    """The texts for clients: a module of constants in Chinese, and one in English (`plugins.words`)."""
    at_work: Callable[[], Collection[tuple[UserId, int]]] = lambda: ()
    """Users, and how many pieces of work run for each.

    What the service appends meanwhile is charged to them.
    """
    start: Callable[[], Awaitable[None]] = _nothing
    """Go on with what an earlier process left. Awaited before the service listens.

    A ValueError is shown as one line, and the service does not start.
    """
    work: Callable[[], Awaitable[None]] = _nothing
    """Begin the work that one node does for all of them. Awaited after `start`.

    Of several nodes only one does it. It begins again, here or elsewhere, after `rest` or the node's end.
    """
    rest: Callable[[], Awaitable[None]] = _nothing
    """Another node has taken the work over: stop it, and leave open what runs."""
    divide: Callable[[Share], Awaitable[None]] = _not_divided
    """Where `Host.shared`: do this part of the work that nodes divide, from now on, and no other."""
    known: Callable[[], Awaitable[None]] = _nothing
    """Look, and change nothing: raises ValueError as `work` and `divide` if they would be refused now."""
    version: str = ""
    """A fingerprint of the code that all nodes must share before `finalize`."""
    finalize: Callable[[str], Awaitable[None]] = _no_finalize
    """Where `Host.shared`: an administrator makes this node's version that of all; the principal is given."""
    drain: Callable[[float], Awaitable[None]] = _no_drain
    """Wait at most this many seconds for running work. Awaited before `close`, when all clients are gone."""
    close: Callable[[], Awaitable[None]] = _nothing
    """Stop what runs; the next start goes on with it. Idempotent."""
    forget: Callable[[UserId], Awaitable[Forgotten]] = _nothing_kept
    """Remove what is kept of a user, except events: the caller prunes those of the streams that are named."""
    trace: Callable[[Any], None] = lambda _traced: None
    """Tell this tracer (`huahuo.actors.effects.run.TracesRuns`) of runs. Called before `work`."""
    idle: Callable[[], Awaitable[None]] = _nothing
    """Return when nothing runs or waits, for tests."""
    routes: Sequence[HttpRoute] = ()
    """Requests over HTTP that it answers, on the service's port and inside an ASGI server."""
    lists: Sequence[LiveList] = ()
    """Lists of rows that clients may follow."""
    tongues: Sequence[Tongue] = ()
    """Languages of other programs' clients on the WebSocket, translated by it."""
    api: object = None
    """What an embedding application may call on the loop, found by `App.api(name)`."""


class ApiRefused(Exception):  # noqa: N818  a refusal, not a fault
    """A plug-in's `api` did not do what an application asked for. The text says why; nothing was written."""


class Samples(Protocol):
    """Random events of one stream, without data of any user."""

    @property
    def stream(self) -> str:
        """The name of the stream."""
        ...

    def bodies(self) -> Iterator[bytes]:
        """Bodies in order, without end."""
        ...


class Plugin(Protocol):
    """A plug-in. Subclass it for the defaults; the attributes may be plain class attributes."""

    @property
    def name(self) -> str:
        """Lower case; names the plug-in in errors and in `App.api`."""
        ...

    @property
    def extra(self) -> str:
        """What to install where a package that it imports in `bring` is missing, as `huahuo[mail]`."""
        return ""

    @property
    def settings(self) -> type[msgspec.Struct] | None:
        """A struct of settings, each with a default, and below it a text with its meaning.

        The type of a field may have bounds: `Annotated[int, Meta(ge=1)]`.
        """
        return None

    @property
    def secret_settings(self) -> frozenset[str]:
        """Names of settings whose values no output shows."""
        return frozenset()

    @property
    def projections(self) -> Mapping[str, str]:
        """What it keeps next to the log (`Host.projections`): names, with their files in `Host.files`."""
        return {}

    @property
    def event_types(self) -> frozenset[str]:
        """Stored names of its events: `publish` refuses them."""
        return frozenset()

    @property
    def past(self) -> Past:
        """What time travel and audits need of it."""
        return Past()

    def bring(self, host: Host) -> Brought:
        """Make what it brings. Called once on the loop, after the log is open and before serving.

        Raises:
            ValueError: a setting cannot be used. The text begins with its name.
        """
        ...

    def warnings(self, settings: Any) -> Iterable[str]:
        """What an operator should know of these settings, for `huahuo doctor`; a sentence each."""
        del settings
        return ()

    def rules(self) -> Sequence[Rule]:
        """What must hold of its events in any log, for `huahuo doctor --check`; new objects at each call."""
        return ()

    def samples(self, seed: int) -> Samples | None:
        """Random events to train dictionaries with, None if it has none. The same seed, the same events."""
        del seed
        return None
