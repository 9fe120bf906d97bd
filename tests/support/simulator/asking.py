"""Commands of a simulated user: each has a nonce of its own, and is kept until it is answered."""

import asyncio
from typing import Any

from tests.support.checkers.history import Asked, History
from tests.support.simulator.kept import Kept, Waiting
from tests.support.simulator.node import Node

REMOVED = frozenset({"print_flyer", "stamp_flyer"})
"""Actions that the newer code has no more."""


class Asks:
    """What devices and browsers have in common. Their constructors set these."""

    node: Node
    name: str
    user: int
    kept: Kept
    _history: History
    _asked: asyncio.Event

    def waiting(self, action: str, stream: str, fields: dict[str, Any]) -> Waiting:
        """A command with a nonce of its own, kept until it is answered."""
        self.kept.made += 1
        nonce = f"{self.name}.{self.kept.made}"
        asked = Asked(self.name, self.user, nonce, stream, command=f"c-{nonce}")
        one = Waiting(asked, action, {**fields, "nonce": nonce})
        self._history.asked.append(asked)
        self.kept.outbox.append(one)
        self._asked.set()
        return one

    def _done(self, one: Waiting, reply: dict[str, Any]) -> None:
        """Note where the event of a command is."""
        at = reply.get("at") or {}
        self.node.marks.sometimes("duplicate answered from the log", reply.get("duplicate"))
        removed = one.action in REMOVED and self.node.runs_newer
        self.node.marks.sometimes("removed action answered from the log", removed and reply.get("duplicate"))
        self._answered(one, "ok", f"{at.get('stream')} {at.get('seq')} {reply.get('parcel_id')}")
        if one.asked.stream in {"", at.get("stream")}:
            one.asked.stream, one.asked.seq = at["stream"], at["seq"]

    def _answered(self, one: Waiting, answer: Any, text: str) -> None:
        self._history.counts["ack"] += answer == "ok" and one.asked.answer != "ok"
        self.node.marks.sometimes("answered again", one.asked.replies)
        one.asked.answer = answer
        one.asked.replies.append(f"{answer} {text}")
        if one in self.kept.outbox:
            self.kept.outbox.remove(one)
