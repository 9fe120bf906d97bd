"""A subscription: its states, the steps between them, and the snapshots that are wanted. Pure.

`TABLE` is the whole machine (docs/delivery.md): `TABLE[state, step]` is the next state. A pair that it does
not list is this server's fault: the look-up raises `IllegalStepError`, and the connection ends.

`Wanted` has the snapshots that a connection still wants, and when a failed one is tried again. There is one
for each stream: a new subscription replaces an older one, and its snapshot too.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Final, Self

from huahuo.transport.protocol.flow_control import Flow

# Members of an IntEnum are hashed in C, those of a plain Enum in Python: a look-up takes a third of the time.


class _Told(IntEnum):
    """A member with its meaning."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class DeliveryState(_Told):
    """Where a subscription stands."""

    NEW = 0, "its cursor is not compared with the log yet"
    SNAPSHOT = 1, "a snapshot must be sent before its events"
    LIVE = 2, "at the head, and the client was told `live`; the fan-out serves it"
    READY = 3, "behind; waits for its turn among the connection's streams"
    TURN = 4, "its next events are at hand and are sent now"
    PARKED = 5, "its next events are not in memory; waits for the task that fetches pages"
    FETCHING = 6, "the store reads its page"
    FAILED = 7, "the store failed; the next tick tries again"
    HELD = 8, "its next event was caused by a command whose reply must be sent first"
    GONE = 9, "ended; whatever still comes for it is dropped"


class Step(_Told):
    """What happened to a subscription."""

    SNAPSHOT_NEEDED = 0, "the client must begin with a state"
    PART_SENT = 1, "a part of the snapshot was sent, and more follow"
    AT_HEAD = 2, "no event follows the cursor"
    BEHIND = 3, "events follow the cursor"
    HEAD_MOVED = 4, "a commit may have touched the stream"
    TURN_CAME = 5, "it was first in line, and the window had room"
    NOT_IN_MEMORY = 6, "the memory of recent events does not reach back to the cursor"
    FETCH_BEGAN = 7, "it was the first that was parked, and the socket had room"
    PAGE_CAME = 8, "the store answered"
    FETCH_FAILED = 9, "the store could not answer now"
    RETRIED = 10, "the connection's tick came"
    REPLY_AWAITED = 11, "the next event's command is not answered yet"
    REPLIED = 12, "that command was answered"
    ENDED = 13, "unsubscribed, replaced by a new position, refused, or the connection closed"


class IllegalStepError(AssertionError):
    """`TABLE` does not list this step for this state."""

    def __init__(self, state: DeliveryState, step: Step) -> None:
        super().__init__(f"the step {step.name} of a subscription in state {state.name}")
        self.state = state
        self.step = step


class Transitions(dict[tuple[DeliveryState, Step], DeliveryState]):
    """A table that raises `IllegalStepError` for each pair that is not in it."""

    __slots__ = ()

    def __missing__(self, pair: tuple[DeliveryState, Step]) -> DeliveryState:
        raise IllegalStepError(*pair)

    def column(self, step: Step) -> "Column":
        """Where one step leads from each state. For frequent steps: a look-up takes a fifth of the time."""
        return Column(step, {state: to for (state, taken), to in self.items() if taken is step})


class Column(dict[DeliveryState, DeliveryState]):
    """See `Transitions.column`. It raises the same error."""

    __slots__ = ("_step",)

    def __init__(self, step: Step, moves: Mapping[DeliveryState, DeliveryState]) -> None:
        super().__init__(moves)
        self._step = step

    def __missing__(self, state: DeliveryState) -> DeliveryState:
        raise IllegalStepError(state, self._step)


_S = DeliveryState
START: Final = DeliveryState.NEW

TABLE: Final = Transitions(
    {
        # The cursor was placed, by the client or by a snapshot.
        (_S.NEW, Step.SNAPSHOT_NEEDED): _S.SNAPSHOT,
        (_S.NEW, Step.AT_HEAD): _S.LIVE,
        (_S.NEW, Step.BEHIND): _S.READY,
        (_S.SNAPSHOT, Step.PART_SENT): _S.SNAPSHOT,
        (_S.SNAPSHOT, Step.AT_HEAD): _S.LIVE,
        (_S.SNAPSHOT, Step.BEHIND): _S.READY,
        # A commit. Only a live subscription learns from it: all others compare with the head later.
        (_S.LIVE, Step.HEAD_MOVED): _S.READY,
        (_S.SNAPSHOT, Step.HEAD_MOVED): _S.SNAPSHOT,
        (_S.READY, Step.HEAD_MOVED): _S.READY,
        (_S.PARKED, Step.HEAD_MOVED): _S.PARKED,
        (_S.FETCHING, Step.HEAD_MOVED): _S.FETCHING,
        (_S.FAILED, Step.HEAD_MOVED): _S.FAILED,
        (_S.HELD, Step.HEAD_MOVED): _S.HELD,
        # A turn. It ends before anything else can happen, so no commit comes meanwhile.
        (_S.READY, Step.TURN_CAME): _S.TURN,
        (_S.TURN, Step.AT_HEAD): _S.LIVE,
        (_S.TURN, Step.BEHIND): _S.READY,
        (_S.TURN, Step.NOT_IN_MEMORY): _S.PARKED,
        (_S.TURN, Step.REPLY_AWAITED): _S.HELD,
        (_S.HELD, Step.REPLIED): _S.READY,
        # A page.
        (_S.PARKED, Step.FETCH_BEGAN): _S.FETCHING,
        (_S.FETCHING, Step.PAGE_CAME): _S.TURN,
        (_S.FETCHING, Step.FETCH_FAILED): _S.FAILED,
        (_S.FAILED, Step.RETRIED): _S.READY,
        # The end.
        (_S.NEW, Step.ENDED): _S.GONE,
        (_S.SNAPSHOT, Step.ENDED): _S.GONE,
        (_S.LIVE, Step.ENDED): _S.GONE,
        (_S.READY, Step.ENDED): _S.GONE,
        (_S.TURN, Step.ENDED): _S.GONE,
        (_S.PARKED, Step.ENDED): _S.GONE,
        (_S.FETCHING, Step.ENDED): _S.GONE,
        (_S.FAILED, Step.ENDED): _S.GONE,
        (_S.HELD, Step.ENDED): _S.GONE,
    }
)

type Cause = tuple[str, str]
"""(principal, command id), as stored with the events that a command causes."""


class Subscription:
    """A cursor in one stream. A new position is a new object, so that reads for the old one are dropped.

    Three things are kept besides the state: two facts that outlast it, and what HELD waits for.
    """

    __slots__ = ("apart", "flow", "held_for", "state", "stream", "told_live")

    def __init__(self, stream: str, after: int, peak: int) -> None:
        self.stream = stream
        self.flow = Flow(after, peak)
        self.state: DeliveryState = START
        self.told_live = False
        self.apart = False  # a joined page could not be used: the next page comes as events
        self.held_for: Cause | None = None


FIRST_S: Final = 0.5
LONGEST_S: Final = 10.0
PATIENCE_S: Final = 30.0
"""After this time without a snapshot, the client is told to come back later."""
RETRY_S: Final = (5.0, 15.0)
FAULTS_MAX: Final = 3
"""A fold that failed this often is not tried again."""


class Want:
    """One snapshot that is wanted."""

    __slots__ = ("attempts", "due_s", "faults", "since_s", "sub")

    def __init__(self, sub: Subscription, now_s: float) -> None:
        self.sub = sub
        self.since_s = self.due_s = now_s
        self.attempts = 0
        self.faults = 0


class Wanted:
    """The snapshots that a connection still wants, and when a failed one is tried again.

    `chance` returns random numbers in [0, 1).
    """

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._wants: dict[str, Want] = {}

    def __len__(self) -> int:
        return len(self._wants)

    def want(self, sub: Subscription, now_s: float) -> None:
        """Want the snapshot of `sub`, and no longer that of another subscription to its stream."""
        self._wants.pop(sub.stream, None)
        self._wants[sub.stream] = Want(sub, now_s)

    def take(self, now_s: float) -> Want | None:
        """Remove and return the next snapshot that is due; None: none is."""
        for stream, want in self._wants.items():
            if want.due_s <= now_s:
                return self._wants.pop(stream)
        return None

    def not_now(self, want: Want, now_s: float) -> float | None:
        """The snapshot failed for now. None: it is tried again. A number: give up and tell this `retry_s`."""
        if now_s - want.since_s >= PATIENCE_S:
            low, high = RETRY_S
            return round(low + self._chance() * (high - low), 1)
        self._again(want, now_s)
        return None

    def failed(self, want: Want, now_s: float) -> bool:
        """The fold failed. True: give up. False: it is tried again."""
        want.faults += 1
        if want.faults >= FAULTS_MAX:
            return True
        self._again(want, now_s)
        return False

    def clear(self) -> None:
        """Want no snapshot any more."""
        self._wants.clear()

    def _again(self, want: Want, now_s: float) -> None:
        if want.sub.stream in self._wants:
            return  # a newer subscription has replaced this one
        most_s = min(LONGEST_S, FIRST_S * 2.0**want.attempts)
        want.attempts += 1
        want.due_s = now_s + most_s * (1 + self._chance()) / 2
        self._wants[want.sub.stream] = want
