"""The states that clients follow: one view for all who follow the same stream.

After an event of its stream the state is asked for once (`State`: by the fold of the service itself), and
those who have the state before it get what differs (RFC 7396), all others the whole. A follower who cannot
take more now gets the newest state later, so nothing is kept for it but the last state of each view.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import structlog

from huahuo.actors.actor.messages import AskTimeout
from huahuo.actors.entities.decider import Busy
from huahuo.actors.plugins.actions import SnapshotOf
from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.errors import Closed, Corrupt, EventStoreError
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.port import Log

_RETRY_S: Final = 1.0
_AT_ONCE: Final = 64
_NOT_NOW: Final = (EventStoreError, Busy, AskTimeout, TimeoutError)

_log = structlog.get_logger(__name__)


class StateFollower(Protocol):
    """A connection's part in a view."""

    seq: int
    """Of the last event in the state that it has; 0: it has none."""

    def may_take(self) -> bool:
        """Whether more may be sent to it now."""
        ...

    def wait(self) -> None:
        """There may be a newer state that it cannot take now."""
        ...

    def take(self, seq: int, frame: bytes | None) -> None:
        """It gets the state after event `seq`. None: it has it."""
        ...

    def fail(self, reason: str) -> None:
        """The state cannot be told."""
        ...

    @property
    def user_id(self) -> UserId:
        """Whose it is."""
        ...

    def judge(self) -> None:
        """Ask again whether it may have the state, and take nothing until then."""
        ...


class StateView:
    """See the module. `number`: the same for all clients of this process."""

    def __init__(self, number: int, stream: str) -> None:
        self.number = number
        self.stream = stream
        self.followers: dict[StateFollower, None] = {}
        self.seq = 0
        self.state: dict[str, Any] = {}
        self.due = False
        self.looking: asyncio.Task[None] | None = None


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any] | None:
    """What RFC 7396 makes of `old` to become `new`. None: it cannot say it, since a member becomes null."""
    patch: dict[str, Any] = dict.fromkeys(old.keys() - new.keys())
    for name, value in new.items():
        before = old.get(name)
        if name in old and _same(before, value):
            continue
        if isinstance(value, dict) and isinstance(before, dict):
            patch[name] = inner = merge_patch(before, value)
            if inner is None:
                return None
        elif _has_null(value):
            return None
        else:
            patch[name] = value
    return patch


def _same(one: Any, other: Any) -> bool:
    # 1, 1.0 and true are equal in Python.
    return one == other and msgspec.json.encode(one) == msgspec.json.encode(other)


def _has_null(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and any(map(_has_null, value.values())))


class States:
    """The followed states of this process. `of`: by kind, who tells a state. `number`: gives out numbers."""

    def __init__(
        self,
        log: Log,
        of: Mapping[str, SnapshotOf],
        framed: Callable[[bytes], bytes],
        number: Callable[[], int],
    ) -> None:
        self._of = of
        self._framed = framed
        self._number = number
        self._views: dict[str, StateView] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._log = log
        self._unlisten: Callable[[], None] | None = None
        """While there are views."""

    def has(self, stream: str) -> bool:
        """Whether a stream of this kind has a state."""
        return stream.partition("/")[0] in self._of

    def close(self) -> None:
        """Tell nobody any more."""
        self._listen(on=False)
        for view in self._views.values():
            if view.looking is not None:
                view.looking.cancel()

    def enter(self, stream: str, follower: StateFollower) -> StateView:
        """Let `follower` follow this stream's state from what it has."""
        view = self._views.get(stream)
        if view is None:
            view = self._views[stream] = StateView(self._number(), stream)
            self._listen(on=True)
        view.followers[follower] = None
        self.wake(view)
        return view

    def leave(self, view: StateView, follower: StateFollower) -> None:
        """The end of `enter`. Idempotent."""
        if view.followers.pop(follower, self) is self or view.followers:
            return
        del self._views[view.stream]
        self._listen(on=bool(self._views))

    def _listen(self, *, on: bool) -> None:
        if on and self._unlisten is None:
            self._unlisten = self._log.listen(self._committed)
        elif not on and self._unlisten is not None:
            self._unlisten()
            self._unlisten = None

    def judge_again(self, user_id: UserId | None) -> None:
        """Ask again who may have a state, of this user's followers (None: of all)."""
        for view in tuple(self._views.values()):
            for follower in tuple(view.followers):
                if user_id is None or follower.user_id == user_id:
                    follower.judge()

    def wake(self, view: StateView) -> None:
        """Something happened, or a follower can take more."""
        view.due = True
        if view.looking is None:
            view.looking = asyncio.get_running_loop().create_task(self._look(view), name="followed state")

    def _committed(self, events: Sequence[StoredEvent]) -> None:
        for event in events:
            view = self._views.get(event.stream)
            if view is not None:
                self.wake(view)

    async def _look(self, view: StateView) -> None:
        """Tell what is due. Each state has a task of its own then: an entity may take long to answer."""
        try:
            while view.due and view.followers:
                view.due = False
                async with self._turns:
                    again = await self._ask(view)
                if again:
                    view.due = True
                    await asyncio.sleep(_RETRY_S)
        finally:
            view.looking = None

    async def _ask(self, view: StateView) -> bool:
        """Ask for the state once, and tell it. True: it is to be tried again."""
        try:
            seq, state = await self._of[view.stream.partition("/")[0]](view.stream)
        except Closed:
            return False
        except Corrupt:
            self._fail(view, "corrupt")
        except _NOT_NOW as error:
            _log.warning("state_not_taken", stream=view.stream, error=type(error).__name__)
            return True
        except Exception:  # noqa: BLE001  an application's code
            _log.exception("state_failed", stream=view.stream)
            self._fail(view, "corrupt")
        else:
            if isinstance(state, bytes):
                self._tell(view, seq, state)
            else:
                self._fail(view, "too_large")
        return False

    def _fail(self, view: StateView, reason: str) -> None:
        for follower in tuple(view.followers):
            follower.fail(reason)

    def _tell(self, view: StateView, seq: int, raw: bytes) -> None:
        state: dict[str, Any] = msgspec.json.decode(raw)
        patch = merge_patch(view.state, state) if view.seq and view.seq != seq else None
        before, view.seq, view.state = view.seq, seq, state
        head = {"type": "state", "view": view.number, "seq": seq}
        whole: bytes | None = None
        change: bytes | None = None
        for follower in tuple(view.followers):
            if not follower.may_take():
                follower.wait()
            elif follower.seq == seq and seq:
                follower.take(seq, None)
            elif patch is not None and follower.seq == before:
                change = change or self._framed(msgspec.json.encode(head | {"patch": patch}))
                follower.take(seq, change)
            else:
                whole = whole or self._framed(msgspec.json.encode(head | {"state": state}))
                follower.take(seq, whole)
