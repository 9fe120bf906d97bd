"""PROTOCOL's streams in their simplest form: a judge for the Python client, without socket or clock.

Written from PROTOCOL alone. It keeps whole streams in lists, answers at once, and raises
`AssertionError` when a client does what the page forbids.
"""

import hashlib
import json
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any


@dataclass
class Stream:
    """Events as JSON objects; `first` is the oldest seq still kept."""

    events: list[dict[str, Any]] = field(default_factory=list)
    first: int = 1

    @property
    def head(self) -> int:
        return len(self.events)


@dataclass
class ModelLog:
    """What a server keeps over connections."""

    id: str = "log-1"
    streams: dict[str, Stream] = field(default_factory=lambda: {"user/1": Stream(), "system": Stream()})
    executed: dict[str, dict[str, Any]] = field(default_factory=dict)
    appended: int = 0
    compacted: set[int] = field(default_factory=set)
    revised: bool = False

    def append(self, stream: str, **fields: Any) -> int:
        self.appended += 1
        known = self.streams.setdefault(stream, Stream())
        known.events.append({"type": "fact", "nonce": self.appended, **fields})
        return known.head

    def prune(self, stream: str, first: int) -> None:
        known = self.streams[stream]
        known.first = max(known.first, min(first, known.head + 1))

    def compact(self, stream: str, count: int) -> None:
        """The oldest `count` events that are still there are no longer: `skipped` accounts for them."""
        self.compacted.update(self.nonces(stream)[:count])

    def check(self, stream: str, seq: int) -> str:
        """Depends on every event of the stream up to `seq`, also on those that were compacted."""
        nonces = [event["nonce"] for event in self.streams[stream].events[:seq]]
        return hashlib.blake2b(repr(nonces).encode(), digest_size=8).hexdigest()

    def nonces(self, stream: str) -> list[int]:
        """What the stream holds now."""
        nonces = [event["nonce"] for event in self.streams[stream].events]
        return [nonce for nonce in nonces if nonce not in self.compacted]

    def revise(self) -> None:
        """Other events take the place of all, under the same numbers and in a log of the same id."""
        self.revised = True
        for name, stream in self.streams.items():
            count = stream.head
            stream.events.clear()
            for _ in range(count):
                self.append(name)

    def replace(self) -> None:
        """Another log under the same address, with other events: numbers went back."""
        number = int(self.id.split("-")[1]) + 1
        self.id = f"log-{number}"
        self.streams = {"user/1": Stream(), "system": Stream()}
        self.append("user/1")


@dataclass
class _Place:
    after: int
    acked: int
    live: bool = False


class ModelConnection:
    """One connection. `take_in` gives the messages that leave at once, `step` what follows."""

    def __init__(self, log: ModelLog, *, run_max: int = 4) -> None:
        self.log = log
        self.run_max = run_max
        self.places: dict[str, _Place] = {}
        self.window = 0
        self.acks: list[dict[str, int]] = []

    def take_in(self, raw: str) -> list[str]:
        message = json.loads(raw)
        match message["action"]:
            case "authenticate" if self.window == 0:
                return self._authenticate(message)
            case "authenticate":
                places = {name: self._where("resumed", place.after) for name, place in self.places.items()}
                return [self._auth_result(places)]
            case "subscribe":
                name, after, log = message["stream"], message.get("after", "head"), message.get("log")
                differs = isinstance(after, int) and self._differs(name, log, message.get("check"))
                frames, place = self._subscribe(name, after, log, differs=differs)
                reply = {"type": "subscribed", "id": message["id"], "stream": message["stream"]}
                return [json.dumps({**reply, "log": self.log.id, **place}), *frames]
            case "unsubscribe":
                self.places.pop(message["stream"], None)
                return [json.dumps({"type": "unsubscribed", "stream": message["stream"]})]
            case "ack":
                self._ack(message["cursors"])
                return []
            case "heartbeat":
                return [json.dumps({"type": "heartbeat_response", "timestamp": "t"})]
            case _:
                return [self._execute(message)]

    @property
    def _outstanding(self) -> int:
        return sum(place.after - place.acked for place in self.places.values())

    @property
    def waits_for_acks(self) -> bool:
        return self._outstanding >= self.window > 0

    def step(self) -> str | None:
        """The next frame of any stream, None where all is sent or the window is used up."""
        outstanding = self._outstanding
        for name, place in self.places.items():
            stream = self.log.streams[name]
            count = min(self.run_max, stream.head - place.after, self.window - outstanding)
            gone = 0
            while place.after + gone < stream.head and self._gone(stream, place.after + gone):
                gone += 1
            if gone:
                frame = {"type": "skipped", "stream": name, "seq": place.after + 1, "to": place.after + gone}
                place.after += gone
                place.acked += gone
                return json.dumps({**frame, "reason": "compacted"})
            if count > 0:
                run = stream.events[place.after : place.after + count]
                run = list(takewhile(lambda event: event["nonce"] not in self.log.compacted, run))
                count = len(run)
                frame = {"type": "events", "stream": name, "seq": place.after + 1, "events": run}
                place.after += count
                return json.dumps(frame)
            if place.after == stream.head and not place.live:
                place.live = True
                live = {"type": "live", "stream": name, "seq": place.after}
                return json.dumps({**live, "check": self.log.check(name, place.after)})
        return None

    def _gone(self, stream: Stream, index: int) -> bool:
        return stream.events[index]["nonce"] in self.log.compacted

    def _authenticate(self, message: dict[str, Any]) -> list[str]:
        self.window = min(message["window"], 4096)
        resume = message["resume"]
        answers: dict[str, dict[str, Any]] = {}
        frames: list[str] = []
        for name in {"user/1": 0, "system": 0, **resume["cursors"]}:
            after = resume["cursors"].get(name, "head")
            check = resume.get("checks", {}).get(name)
            assert not check or name in resume["cursors"], "a check without a cursor"
            differs = self._differs(name, resume["log"], check)
            more, answers[name] = self._subscribe(name, after, resume["log"], differs=differs)
            frames += more
        return [self._auth_result(answers), *frames]

    def _differs(self, name: str, log: str | None, pair: list[Any] | None) -> bool:
        """Whether the client's check is not that of the log (PROTOCOL, "Checks")."""
        if pair is None or log != self.log.id:
            return False
        seq, check = pair
        differs: bool = seq > self.log.streams[name].head or check != self.log.check(name, seq)
        assert not differs or self.log.revised, f"{name} {seq} has another check than was told"
        return differs

    def _auth_result(self, places: dict[str, dict[str, Any]]) -> str:
        return json.dumps(
            {
                "type": "authentication_result",
                "success": True,
                "session": "s-1",
                "log": self.log.id,
                "user": {"user_id": 1, "username": "u"},
                "heartbeat_s": 30,
                "window": self.window,
                "streams": places,
            }
        )

    def _where(self, outcome: str, after: int) -> dict[str, Any]:
        return {"outcome": outcome, "after": after}

    def _subscribe(
        self, name: str, after: Any, log: str | None, *, differs: bool
    ) -> tuple[list[str], dict[str, Any]]:
        stream = self.log.streams.setdefault(name, Stream())
        if name == "group/secret":
            return [], self._where("denied", 0)
        outcome, at = "resumed", stream.head
        if after == "head":
            outcome = "fresh"
        elif after == "snapshot":
            outcome = "snapshot"
        elif after == "start":
            outcome, at = ("resumed", 0) if stream.first == 1 else ("gap", at)
        elif log != self.log.id or after > stream.head or differs:
            outcome = "reset"
        elif after < stream.first - 1:
            outcome = "gap"
        else:
            at = after
        self.places[name] = _Place(at, at)
        frames = []
        if outcome in {"gap", "reset", "snapshot"}:
            state = {"nonces": self.log.nonces(name)}
            frame = {"type": "snapshot", "stream": name, "seq": at, "check": self.log.check(name, at)}
            frames = [json.dumps({**frame, "state": state})]
        return frames, self._where(outcome, at)

    def _ack(self, cursors: dict[str, int]) -> None:
        for name, seq in cursors.items():
            place = self.places[name]
            assert seq <= place.after, f"bad_ack: {name} {seq} beyond {place.after}"
            place.acked = max(place.acked, seq)
        self.acks.append(cursors)

    def _execute(self, message: dict[str, Any]) -> str:
        """Every other action is a command that appends one event of its own to `user/1`."""
        command_id = message["id"]
        if command_id in self.log.executed:
            return json.dumps({**self.log.executed[command_id], "duplicate": True})
        seq = self.log.append("user/1", command=command_id)
        reply = {"type": "success", "id": command_id, "at": {"stream": "user/1", "seq": seq}}
        self.log.executed[command_id] = reply
        return json.dumps(reply)
