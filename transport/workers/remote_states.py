"""Answers and states that the owner makes part by part, as a worker asks for them."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, cast

import msgspec

from huahuo.actors.plugins import calls
from huahuo.actors.plugins.actions import MayRead, SnapshotOf
from huahuo.actors.plugins.principal import Principal
from huahuo.transport.workers.messages import Judge, Part, Piece, Release, Snapshot, SnapshotTaken
from huahuo.transport.workers.questions import Questions

_PART: Final = msgspec.msgpack.Decoder(tuple[bytes, int | None])
_PIECE: Final = msgspec.msgpack.Decoder(bytes)
_TAKEN: Final = msgspec.msgpack.Decoder(SnapshotTaken)
_JUDGED: Final = msgspec.msgpack.Decoder(bool | None)
_END: Final = object()


class RemoteParted:
    """A `Parted` whose texts are awaited (`Turns.slice`). The owner keeps it until this object is gone."""

    def __init__(self, questions: Questions, number: int) -> None:
        self._questions = questions
        self._number = number

    def __del__(self) -> None:
        self._questions.say(Release(self._number))

    @classmethod
    def of(cls, questions: Questions, number: int) -> calls.Parted:
        """As the type that its users know."""
        return cast("calls.Parted", cls(questions, number))

    def pieces(self) -> Iterator[Awaitable[bytes]]:
        """See `Parted`. The last text is empty."""
        return iter(self._piece, cast("Any", _END))

    def part(self, start: int, bytes_max: int) -> Awaitable[tuple[bytes, int | None]]:
        """See `Parted`."""
        return self._questions.ask(lambda n: Part(n, self._number, start, bytes_max), _PART)

    def _piece(self) -> Awaitable[bytes]:
        return self._questions.ask(lambda n: Piece(n, self._number), _PIECE)


def snapshots_of(questions: Questions) -> SnapshotOf:
    """Takes the state of any stream."""

    async def of(stream: str) -> tuple[int, bytes | calls.Parted]:
        taken = await questions.ask(lambda n: Snapshot(n, stream), _TAKEN)
        if taken.parted:
            return taken.seq, RemoteParted.of(questions, taken.parted)
        return taken.seq, taken.state

    return of


def judge_of(questions: Questions) -> MayRead:
    """Judges who may read any stream."""

    def judge(stream: str, principal: Principal) -> Awaitable[bool | None]:
        return questions.ask(lambda n: Judge(n, principal, stream), _JUDGED)

    return cast("Callable[[str, Principal], Any]", judge)
