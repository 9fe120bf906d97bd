"""The Python client's messages, encoded and decoded, and its commands that wait for an answer. Pure.

A command keeps its id until it is answered, over any number of connections. The server executes an id once
(PROTOCOL 6), so a command may safely be sent again. A token bucket is the rate at which messages are sent.
"""

import heapq
import json
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Union

import msgspec

from huahuo.transport.client.model import ProtocolViolation, QueueFull
from huahuo.transport.protocol.flow_control import TokenBucket
from huahuo.transport.protocol.kinds import KINDS, NAMES, Assembly, Kind

_DIGITS_MAX: Final = 4_000
"""Python reads no longer integer."""
_known: msgspec.json.Decoder[Kind] = msgspec.json.Decoder(Union[KINDS])  # noqa: UP007  made from the table
_object = msgspec.json.Decoder(dict[str, Any])
_loose = json.JSONDecoder(
    parse_int=lambda digits: int(digits) if len(digits) < _DIGITS_MAX else float(digits)
)
"""Reads what a log may hold and `msgspec` does not: numbers that are infinite as a double."""


def parse(raw: str | bytes) -> Kind | dict[str, Any]:
    """A message of a known kind, or else the JSON object (a reply, or a kind of a newer server).

    Raises:
        msgspec.DecodeError: not a JSON object, or a known kind with a field of the wrong type.
    """
    try:
        return _known.decode(raw)
    except msgspec.ValidationError:
        message = _object_of(raw)
        if message.get("type") in NAMES:
            known: Kind = msgspec.convert(message, Union[KINDS])  # noqa: UP007  as above
            return known
        return message


def _object_of(raw: str | bytes) -> dict[str, Any]:
    try:
        return _object.decode(raw)
    except msgspec.ValidationError:
        return msgspec.convert(_loose.decode(raw if isinstance(raw, str) else raw.decode()), dict[str, Any])


def encode(message: dict[str, Any]) -> str:
    """One message to the server.

    Raises:
        TypeError: a field holds a value that JSON cannot.
    """
    return msgspec.json.encode(message).decode()


RETRIED_CODES = frozenset({"unavailable", "rate_limited"})
"""Passing errors: the command is sent again with the same id."""

ATTEMPTS_MAX = 8
"""A command is sent at most this often before such an error is handed to the application."""


class _Command:
    """Holds the whole message, which may have passwords, so it deliberately has no repr of its own."""

    __slots__ = ("attempts", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.attempts = 0


class Commands:
    """Commands by id, oldest first.

    `prefix` makes ids unique across restarts of the application. At most `limit` commands wait.
    """

    def __init__(self, prefix: str, limit: int, backoff: Callable[[int], float]) -> None:
        self._prefix = prefix
        self._limit = limit
        self._backoff = backoff
        self._waiting: dict[str, _Command] = {}
        self._unsent: deque[str] = deque()
        self._later: list[tuple[float, str]] = []
        self._assemblies: dict[str, Assembly] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, command_id: str) -> bool:
        return command_id in self._waiting

    def new_id(self) -> str:
        """An id that no other message of this client has."""
        self._count += 1
        return f"{self._prefix}-{self._count}"

    def add(self, action: str, fields: dict[str, Any], command_id: str | None = None) -> str:
        """Add a command. `due` will return it.

        Raises:
            QueueFull: too many commands wait already.
            TypeError: a field holds a value that JSON cannot.
            ValueError: a field is called `action` or `id`, or a command with this id waits already.
        """
        if len(self._waiting) >= self._limit:
            raise QueueFull(self._limit)
        if "action" in fields or "id" in fields:
            raise ValueError("`action` and `id` are not fields of a command")
        command_id = command_id or self.new_id()
        if command_id in self._waiting:
            raise ValueError(f"{command_id} waits for its answer already")
        self._waiting[command_id] = _Command(encode({"action": action, "id": command_id, **fields}))
        self._unsent.append(command_id)
        return command_id

    def forget(self, command_id: str) -> None:
        """The caller gave the command up: do not send it (again)."""
        self._waiting.pop(command_id, None)
        self._assemblies.pop(command_id, None)

    def connection_lost(self) -> None:
        """The connection is lost: all waiting commands must be sent again."""
        self._unsent = deque(self._waiting)
        self._later.clear()
        self._assemblies.clear()

    def assembled(self, reply: dict[str, Any], size_bytes: int) -> dict[str, Any] | None:
        """The reply that this message is, or completes. None: parts are missing, or the command was given up.

        Raises:
            ProtocolViolation: a part was left out, or all parts together are too large.
        """
        number, more = reply.pop("part", 1), reply.pop("more", False)
        if number == 1 and not more:
            return reply
        command_id = str(reply.get("id", ""))
        if command_id not in self._waiting:
            return None
        assembly = self._assemblies.setdefault(command_id, Assembly())
        if not assembly.add(reply, number, size_bytes):
            raise ProtocolViolation("a part of a reply that does not fit")
        if more:
            return None
        del self._assemblies[command_id]
        return assembly.whole

    def answered(self, command_id: str, error_code: str, now: float, retry_s: float = 0.0) -> bool:
        """An answer came. True: it is final and the command is gone. False: the command is sent again later.

        `retry_s`: the least delay, as the server asked.
        """
        command = self._waiting[command_id]
        if error_code in RETRIED_CODES and command.attempts < ATTEMPTS_MAX:
            heapq.heappush(self._later, (now + max(retry_s, self._backoff(command.attempts)), command_id))
            return False
        del self._waiting[command_id]
        return True

    def due(self, pace: TokenBucket, now: float) -> list[str]:
        """The messages to send now."""
        while self._later and self._later[0][0] <= now:
            self._unsent.append(heapq.heappop(self._later)[1])
        messages: list[str] = []
        while self._unsent:
            command = self._waiting.get(self._unsent[0])
            if command is not None:
                if not pace.take(now):
                    break
                command.attempts += 1
                messages.append(command.text)
            self._unsent.popleft()
        return messages

    def next_at(self, pace: TokenBucket) -> float | None:
        """When `due` will return a message again; None: when a command is added."""
        if self._unsent:
            return pace.next_at_s()
        return self._later[0][0] if self._later else None
