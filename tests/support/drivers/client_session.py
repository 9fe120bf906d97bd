"""A client session under test: its output as JSON objects, its input by keywords, a clock that tests set."""

import json
from typing import Any

from huahuo.transport.client.model import After, Cursor, Happening
from huahuo.transport.client.retry import Retry
from huahuo.transport.client.session import ClientSession

STREAM = "user/42"
LOG = "log-1"


class Bench:
    """`said()` gives the messages sent since the last call, `happened(kind)` the happenings of a kind."""

    def __init__(self, *, window: int = 8, commands_max: int = 3, messages_per_s: float = 0) -> None:
        self.now = 100.0
        self.chance = 0.5
        self.session = ClientSession(
            client="dev-1",
            window=window,
            command_prefix="p",
            retry=Retry(lambda: self.chance, renewable=True),
            commands_max=commands_max,
            messages_per_s=messages_per_s,
        )
        self._happened: list[Happening] = []

    def follow(self, after: After = "head", cursor: Cursor | None = None) -> "Bench":
        self.session.subscribe(STREAM, after, cursor, self.now)
        return self

    def connect(self) -> dict[str, Any]:
        """Open a socket; gives the `authenticate`."""
        self.session.connected("jwt", self.now)
        [message] = self.said()
        return message

    def tell(self, kind: str, **fields: Any) -> None:
        self.session.received(json.dumps({"type": kind, **fields}), self.now)

    def accept(self, log: str = LOG, heartbeat_s: float = 30, window: int = 8, **streams: Any) -> None:
        """Authentication succeeds; `streams` by name without `user/42` if it is not given."""
        self.tell(
            "authentication_result",
            success=True,
            session="s-1",
            log=log,
            user={"user_id": 42},
            heartbeat_s=heartbeat_s,
            window=window,
            streams=streams.get("streams", {}),
        )

    def online(self, outcome: str = "resumed", after: int = 0, **more: Any) -> "Bench":
        """Connect and be placed in `user/42`, whichever way the client asks for it."""
        asked = self.connect()
        place = {"outcome": outcome, "after": after, "first": 1, "head": 99, **more}
        resumed = STREAM in asked["resume"]["cursors"]
        self.accept(streams={STREAM: place} if resumed else {})
        for message in self.said():
            if message["action"] == "subscribe":
                self.tell("subscribed", id=message["id"], stream=STREAM, log=LOG, **place)
        return self

    def events(self, first: int, last: int) -> None:
        self.tell(
            "events", stream=STREAM, seq=first, events=[{"type": "e", "n": n} for n in range(first, last + 1)]
        )

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.session.tick(self.now)

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(message) for message in self.session.outgoing(self.now)]

    def acks(self) -> list[dict[str, int]]:
        return [message["cursors"] for message in self.said() if message["action"] == "ack"]

    def happened[T](self, kind: type[T]) -> list[T]:
        self._happened += self.session.drain()
        return [one for one in self._happened if isinstance(one, kind)]

    def take(self) -> list[int]:
        """Consume everything that is there, and say so; gives the seqs."""
        seqs: list[int] = []
        while (item := self.session.take(STREAM)) is not None:
            seqs += [event.seq for event in item]
            self.session.processed(STREAM, item.era, item.last, self.now)
        return seqs
