"""Plays a golden conversation (`tests/transcripts`) against a session."""

from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.dialects import negotiate
from huahuo.transport.protocol.kinds import Part
from tests.support.drivers.session import START_MS, Driver, Message, ModelLog, note_command

FOLDER = Path(__file__).parents[2] / "transcripts"


class Title(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    why: str


class Step(msgspec.Struct, forbid_unknown_fields=True):
    at_ms: int
    origin: str = msgspec.field(name="from")
    frame: dict[str, Any]


def read(path: Path) -> tuple[Title, list[Step]]:
    """A transcript's title and steps.

    Raises:
        msgspec.ValidationError: a line is not of the form that the README describes.
    """
    first, *rest = path.read_bytes().splitlines()
    return msgspec.json.decode(first, type=Title), [msgspec.json.decode(line, type=Step) for line in rest]


class Stage:
    """A log and one connection after the other, moved by the steps. `said` waits to be compared."""

    def __init__(self, made_by: type[Driver] = Driver) -> None:
        self._made_by = made_by
        self.log = ModelLog()
        self.driver: Driver | None = None
        self.said: deque[Message] = deque()
        self.at_ms = 0

    def play(self, step: Step) -> None:
        """Do one step; a server's step is compared with what the session says.

        Raises:
            AssertionError: the session says something else, or nothing.
        """
        self._advance_to(step.at_ms)
        match step.origin:
            case "network":
                self._network(step.frame)
            case "client":
                self.said += self._open.say(**step.frame)
            case "world":
                self._world(step.frame)
            case "server":
                assert self.said, f"the session does not say {step.frame}"
                assert self.said.popleft() == step.frame
            case other:
                raise AssertionError(f"who is {other}?")

    @property
    def _open(self) -> Driver:
        assert self.driver is not None, "no connection is open"
        return self.driver

    def _advance_to(self, at_ms: int) -> None:
        assert at_ms >= self.at_ms, "time goes forward"
        if self.driver is not None and at_ms > self.at_ms:
            self.said += self.driver.after((at_ms - self.at_ms) / 1000)
        self.at_ms = at_ms

    def _network(self, frame: dict[str, Any]) -> None:
        assert not self.said, f"the session said more: {self.said}"
        match frame["event"]:
            case "open":
                offered = [frame["subprotocol"]] if frame["subprotocol"] else []
                dialect = negotiate(offered, compression=False).dialect
                assert dialect is not None
                now = START_MS + self.at_ms
                self.driver = self._made_by(self.log, dialect=dialect, commands=[note_command()], now_ms=now)
                self.driver.hold_snapshots = True
            case "cut":
                self._open.session.gone()
                self.driver = None
            case "close":
                closed = self._open.closed
                assert closed is not None, "the session has not closed"
                assert closed.code == frame["code"]
                self.driver = None
            case other:
                raise AssertionError(f"what is {other}?")

    def _world(self, frame: dict[str, Any]) -> None:
        driver = self.driver
        part = Part(frame.get("part", 1), frame.get("more", False))
        if "append" in frame:
            events: list[Message] = frame["events"]
            command_id = frame.get("command", "")
            cause = {"principal": "user/42" if command_id else "", "command_id": command_id}
            for event, check in zip(events, frame.get("checks", [""] * len(events)), strict=True):
                self.log.append_body(frame["append"], event, link=bytes.fromhex(check), **cause)
            if driver is not None:
                driver.wake(frame["append"])
                self.said += driver.take()
        elif "reply" in frame:
            at = (frame["at"]["stream"], frame["at"]["seq"]) if "at" in frame else None
            duplicate = frame.get("duplicate", False)
            self.said += self._open.reply(frame["reply"], at=at, duplicate=duplicate, part=part)
        elif "snapshot" in frame:
            state = msgspec.json.encode(frame["snapshot"])
            self.said += self._open.give_snapshot(frame["seq"], state, part)
        elif "prune" in frame:
            self.log.prune(frame["prune"], frame["to"])
        elif "compact" in frame:
            self.log.compact(frame["compact"], frame["after"], frame["to"])
        elif "log" in frame:
            self.log = ModelLog(frame["log"])
        else:
            self._open.carry_out(self._open.session.close(CloseCode(frame["close"]), frame["reason"]))
            self.said += self._open.take()
