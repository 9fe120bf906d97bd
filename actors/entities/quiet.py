"""An entity in memory that nobody has sent a message: a state without an actor.

It was read together with others, because a timer of it is due. It decides in the caller's steps
(`huahuo.actors.entities.together`), and has no inbox, no reference and no entry in a registry. Its first
message makes it an actor, which takes over the state.

If the message comes while it is held for an append, the actor loads itself. Then both may decide about one
state; each append expects the stream's head, so one of them decides again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from huahuo.actors.entities.deciding import Deciding
from huahuo.actors.entities.folded import UNLOADED, Folded
from huahuo.actors.entities.kind import Kind
from huahuo.eventstore.model import Page, StoredEvent
from huahuo.eventstore.port import Log

READ_TOGETHER: Final = 128
_BYTES_MAX: Final = 32 << 10
"""One read of many streams takes at most 4 MiB. Of a stream with more bytes the first part is read, alone."""


class QuietEntity(Deciding):
    """See the module. `used_s`: see `huahuo.actors.entities.directory`."""

    __slots__ = ("_is_gone", "_is_held", "used_s")

    def __init__(self, kind: Kind, stream: str) -> None:
        super().__init__(kind, stream)
        self._is_held = self._is_gone = False
        self.used_s = 0.0

    def load_from(self, events: Sequence[StoredEvent]) -> bool:
        """Take the whole stream as it was read. False: it is not whole, or cannot be folded."""
        if not events or events[0].seq != 1:
            return False
        decider = self._kind.decider
        try:
            state = decider.initial(self._stream)
            for event in events:
                state = decider.evolve(state, event)
        except Exception:  # noqa: BLE001  a fold may raise anything: a message will say it
            return False
        self._state, self._seq = state, events[-1].seq
        self._settle()
        return True

    @property
    def is_loaded(self) -> bool:
        """Whether it has its state: not after an append whose outcome is not known."""
        return self._seq != UNLOADED

    def hold(self) -> "QuietEntity | None":
        """Itself, for one caller until `let_go`. None: another one has it."""
        if self._is_held:
            return None
        self._is_held = True
        return self

    def let_go(self) -> None:
        """The end of `hold`."""
        self._is_held = False
        if self._is_gone:
            self._drop()

    def leave(self) -> bool:
        """Leave memory. False: it is held."""
        if self._is_held:
            return False
        self._leave()
        return True

    def become(self, actor: Folded) -> None:
        """An actor takes its place, and its state unless that may be ahead of the log."""
        if self._is_held:
            self._is_gone = True
            return
        actor.take_over(self)
        self._drop()


def short_ones(
    log: Log, kinds: Mapping[str, Kind], addresses: Iterable[str]
) -> Iterator[tuple[str, Kind, Page]]:
    """Those entities, each as `<kind>/<key>`, that can be quiet, with all that must be read of each.

    Their streams are short. Appends of their kinds expect the stream's head, as an actor may decide too.
    """
    for address in addresses:
        name, _, key = address.partition("/")
        if name not in kinds:  # another node's newer code has it
            continue
        kind = kinds[name]
        stream = address if kind.stream_prefix == name else f"{kind.stream_prefix}/{key}"
        head = log.head(stream)
        if head.first <= 1 and head.seq < kind.policy.leaving and kind.decider.guarded:
            yield address, kind, Page(stream, 0, head.seq, _BYTES_MAX)
