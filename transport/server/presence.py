"""Who follows the presence of a stream now: a row for each connection, in no log.

Each process has the rows of its own connections, and those that it heard of others (`heard`), by their
source: the owner of workers hears all, and tells each what the others have (`sinks`). A worker asks for what
there is when the first of its connections comes (`fill`).

Changes of 20 ms are told together. A follower who cannot take more gets all rows later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import batched, chain
from typing import Final, Protocol

import msgspec
import structlog

from huahuo.actors.plugins.calls import UserId
from huahuo.eventstore.errors import EventStoreError

DATA_BYTES_MAX: Final = 1_024
_TOGETHER_S: Final = 0.02
_ROWS_A_MESSAGE: Final = 1_000
_HERE: Final = ""

type Rows = Mapping[str, bytes]
type Sink = Callable[[str, str, dict[str, bytes], list[str]], None]
"""Takes a source, a stream, new rows, and keys of rows that are gone."""

_log = structlog.get_logger(__name__)


class PresenceFollower(Protocol):
    """A connection's part in a room."""

    position: int
    """Of the last message that it got; 0: none."""
    counts: bool
    """Whether it gets the number of rows in place of them."""

    def may_take(self) -> bool:
        """Whether more may be sent to it now."""
        ...

    def wait(self) -> None:
        """There may be changes that it cannot take now."""
        ...

    def take(self, position: int, frames: Sequence[bytes]) -> None:
        """It gets what changed, or all."""
        ...

    @property
    def user_id(self) -> UserId:
        """Whose it is."""
        ...

    def judge(self) -> None:
        """Ask again whether it may be there, and take nothing until then."""
        ...


class Room:
    """The presence of one stream. `number`: of its view; `count_number`: of that with the number of rows."""

    def __init__(self, stream: str, number: int, count_number: int) -> None:
        self.stream = stream
        self.number = number
        self.count_number = count_number
        self.followers: dict[PresenceFollower, None] = {}
        self.sources: dict[str, dict[str, bytes]] = {}
        self.position = 1
        self.put: dict[str, bytes] = {}
        self.drop: dict[str, None] = {}
        self.telling: asyncio.TimerHandle | None = None

    def rows(self) -> Iterator[tuple[str, bytes]]:
        """All rows, by key."""
        return chain.from_iterable(rows.items() for rows in self.sources.values())

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(map(len, self.sources.values()))

    def change(self, source: str, put: Rows, drop: Iterable[str]) -> None:
        """The rows of a source have changed."""
        rows = self.sources.setdefault(source, {})
        for key, row in put.items():
            rows[key] = self.put[key] = row
            self.drop.pop(key, None)
        for key in drop:
            if rows.pop(key, None) is not None:
                self.put.pop(key, None)
                self.drop[key] = None
        if not rows:
            del self.sources[source]


class Presence:
    """See the module."""

    def __init__(self, framed: Callable[[bytes], bytes], number: Callable[[], int]) -> None:
        self.sinks: dict[str, Sink] = {}
        """By what they are the source of."""
        self.fill: Callable[[str], Awaitable[Mapping[str, Rows]]] | None = None
        self._framed = framed
        self._number = number
        self._rooms: dict[str, Room] = {}
        self._filling: set[asyncio.Task[None]] = set()

    @property
    def rooms(self) -> Iterable[str]:
        """The streams whose presence is followed here, or was heard of."""
        return self._rooms.keys()

    def close(self) -> None:
        """Tell nobody any more."""
        for room in self._rooms.values():
            if room.telling is not None:
                room.telling.cancel()
        for task in self._filling:
            task.cancel()

    def enter(self, stream: str, follower: PresenceFollower, key: str, row: bytes) -> Room:
        """Let `follower` be in a room, and follow who else is."""
        room = self._room(stream)
        if not room.followers and self.fill is not None:
            task = asyncio.get_running_loop().create_task(self._fill(room))
            self._filling.add(task)
            task.add_done_callback(self._filling.discard)
        room.followers[follower] = None
        self._changed(room, _HERE, {key: row}, ())
        return room

    def present(self, room: Room, key: str, row: bytes) -> None:
        """The row of a connection changes."""
        self._changed(room, _HERE, {key: row}, ())

    def leave(self, room: Room, follower: PresenceFollower, key: str) -> None:
        """The end of `enter`. Idempotent."""
        if room.followers.pop(follower, self) is not self:
            self._changed(room, _HERE, {}, (key,))

    def judge_again(self, user_id: UserId | None) -> None:
        """Ask again who may be in a room, of this user's connections (None: of all)."""
        for room in tuple(self._rooms.values()):
            for follower in tuple(room.followers):
                if user_id is None or follower.user_id == user_id:
                    follower.judge()

    def wake(self, room: Room) -> None:
        """A follower can take more."""
        self._soon(room)

    def heard(self, source: str, stream: str, put: Rows, drop: Iterable[str]) -> None:
        """Another process tells what changed there. A worker passes over rooms that nobody is in here."""
        if self.fill is None or stream in self._rooms:
            self._changed(self._room(stream), source, put, drop)

    def heard_all(self, source: str, rooms: Mapping[str, Rows]) -> None:
        """Another process tells all that it has of the rooms of this one."""
        for stream, room in tuple(self._rooms.items()):
            known, now = room.sources.get(source, {}), rooms.get(stream, {})
            put = {key: row for key, row in now.items() if known.get(key) != row}
            drop = known.keys() - now.keys()
            if put or drop:
                self._changed(room, source, put, drop)

    def gone(self, source: str) -> None:
        """Another process is no more, and its connections with it."""
        self.heard_all(source, {})

    def known(self, stream: str, but: str) -> dict[str, dict[str, bytes]]:
        """The rows of a room by source, but those of one source."""
        room = self._rooms.get(stream)
        return {} if room is None else {name: rows for name, rows in room.sources.items() if name != but}

    def _room(self, stream: str) -> Room:
        room = self._rooms.get(stream)
        if room is None:
            room = self._rooms[stream] = Room(stream, self._number(), self._number())
        return room

    async def _fill(self, room: Room) -> None:
        assert self.fill is not None, "it is asked"
        try:
            found = await self.fill(room.stream)
        except EventStoreError as error:
            _log.warning("presence_not_filled", stream=room.stream, error=type(error).__name__)
            return
        if self._rooms.get(room.stream) is room:
            for source, rows in found.items():
                room.change(source, rows, ())
            self._soon(room)

    def _changed(self, room: Room, source: str, put: Rows, drop: Iterable[str]) -> None:
        gone = list(drop)
        room.change(source, put, gone)
        for name, sink in self.sinks.items():
            if name != source:
                sink(source, room.stream, dict(put), gone)
        self._soon(room)

    def _soon(self, room: Room) -> None:
        if room.telling is None:
            room.telling = asyncio.get_running_loop().call_later(_TOGETHER_S, self.tell, room)

    def tell(self, room: Room) -> None:
        """Tell now what has changed."""
        if room.telling is not None:
            room.telling.cancel()
            room.telling = None
        if not room.followers and (self.fill is not None or not room.sources):
            self._rooms.pop(room.stream, None)
            return
        before, put, drop = room.position, room.put, room.drop
        if put or drop:
            room.position += 1
            room.put, room.drop = {}, {}
        made: dict[tuple[bool, bool], list[bytes]] = {}
        for follower in tuple(room.followers):
            if follower.position == room.position:
                continue
            if not follower.may_take():
                follower.wait()
                continue
            kind = (follower.counts, not follower.counts and follower.position != before)
            if kind not in made:
                made[kind] = self._frames(room, put, drop, counts=kind[0], whole=kind[1])
            follower.take(room.position, made[kind])

    def _frames(
        self, room: Room, put: Rows, drop: Iterable[str], *, counts: bool, whole: bool
    ) -> list[bytes]:
        head: dict[str, object] = {"type": "rows", "view": room.number, "position": room.position}
        if counts:
            said = head | {"view": room.count_number, "put": [], "drop": [], "count": room.count}
            return [self._framed(msgspec.json.encode(said))]
        if whole:
            head["reset"] = True
        rows = [(key, msgspec.Raw(row)) for key, row in (room.rows() if whole else put.items())]
        gone = [] if whole else list(drop)
        pieces = list(batched(rows, _ROWS_A_MESSAGE)) or [()]
        return [
            self._framed(
                msgspec.json.encode(
                    head
                    | {"put": piece, "drop": gone if number == 1 else []}
                    | ({"more": True} if number < len(pieces) else {})
                )
            )
            for number, piece in enumerate(pieces, 1)
        ]
