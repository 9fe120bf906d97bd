"""A socket whose client speaks a plug-in's language (`huahuo.actors.plugins.actions`).

The connection behind it serves the document dialect and knows nothing of this. The client's first message
decides once: if no tongue knows it, everything goes straight through from then on.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
import structlog

from huahuo.actors.plugins.actions import Interpreter, Message, SaysTooLarge, Tongue
from huahuo.transport.load.intake import Load
from huahuo.transport.protocol.codes import CloseCode
from huahuo.transport.protocol.flow_control import TransportSettings
from huahuo.transport.protocol.frames import TEXT, text_frame, unframed
from huahuo.transport.protocol.strict_json import compact_object, has_many_powers, values_exceed
from huahuo.transport.wire.lobby import Aborted
from huahuo.transport.wire.ports import Listener, Socket
from huahuo.transport.words import en

_NOTHING: Final = b'{"action":"heartbeat_response"}'
"""Stands in for a message that asks the host for nothing, so that it counts against the client's rate."""

_log = structlog.get_logger(__name__)


def _of(part: str, name: str) -> Any:
    """What is the socket's or the listener's own."""

    def get(interpreted: "Interpreted") -> object:
        return getattr(getattr(interpreted, part), name)

    def put(interpreted: "Interpreted", value: object) -> None:
        setattr(getattr(interpreted, part), name, value)

    return property(get, put)


class Interpreted:
    """A socket whose client speaks a plug-in's language (`huahuo.actors.plugins.tongues`).

    Implements `Socket` for the connection, and `Listener` for the socket while messages must be translated.
    """

    address: str = _of("socket", "address")
    root: str = _of("socket", "root")
    trusted: bool = _of("socket", "trusted")
    load: Load | None = _of("socket", "load")
    transport: Aborted = _of("socket", "transport")
    paused: bool = _of("socket", "paused")
    is_open: bool = _of("socket", "is_open")
    unsent_bytes: int = _of("socket", "unsent_bytes")
    close_code: int | None = _of("socket", "close_code")
    has_room: Callable[[], bool] = _of("socket", "has_room")
    bound_buffer: Callable[[int], None] = _of("socket", "bound_buffer")
    go_on: Callable[[], None] = _of("socket", "go_on")
    go_on_soon: Callable[[], None] = _of("socket", "go_on_soon")
    quick_acks = None
    """Each message is translated."""
    is_busy: bool = _of("_listener", "is_busy")
    ponged: Callable[[], None] = _of("_listener", "ponged")
    filled: Callable[[], None] = _of("_listener", "filled")
    drained: Callable[[], None] = _of("_listener", "drained")
    disconnected: Callable[[], None] = _of("_listener", "disconnected")
    lost: Callable[[], None] = _of("_listener", "lost")

    def __init__(
        self,
        ws: Socket,
        tongues: Sequence[Tongue],
        settings: TransportSettings,
        now_s: Callable[[], float],
    ) -> None:
        self.socket = ws
        self._tongues = tongues
        self._settings = settings
        self._now_s = now_s
        self._listener: Listener | None = None
        self._decided = False
        self._interpreter: Interpreter | None = None
        self._asked: list[bytes] = []

    # Reading ----------------------------------------------------------------------------------------------

    @property
    def listener(self) -> Listener | None:
        """See `Socket`."""
        return self._listener

    @listener.setter
    def listener(self, listener: Listener | None) -> None:
        self._listener = listener
        translates = listener is not None and not (self._decided and self._interpreter is None)
        self.socket.listener = self if translates else listener

    def took(self, text: bytes) -> bool:
        """See `Listener`. Each message is translated in its turn."""
        del text
        return False

    def heard(self, texts: list[bytes]) -> int:
        """See `Listener`. A text counts as handled when all that it asks for was."""
        assert self._listener is not None, "else the socket would not offer them"
        if not self._decided:
            self._decide(texts[0])
        interpreter = self._interpreter
        if interpreter is None:
            return self._listener.heard(texts)
        for count, text in enumerate(texts):
            if not self._asked:
                try:
                    self._asked = self._hear(interpreter, text)
                except Exception:  # noqa: BLE001  a plug-in's fault ends this connection and no other
                    self._failed()
            if self._asked and self._listener is not None:
                del self._asked[: self._listener.heard(self._asked)]
            if self._asked:
                return count
        return len(texts)

    def owes(self) -> bool:
        """See `Listener`."""
        return self._listener is not None and self._listener.owes()

    def _decide(self, data: bytes) -> None:
        """Look at the first message."""
        first = compact_object(data, self._settings.json_depth_max) or self._decoded(data)
        if isinstance(first, dict):
            found = (tongue.interpreter(first) for tongue in self._tongues)
            self._interpreter = next((one for one in found if one is not None), None)
        self._decided = True
        self.listener = self._listener

    def _hear(self, interpreter: Interpreter, data: bytes) -> list[bytes]:
        understood = interpreter.hear(self._decoded(data), self._now_s())
        self._say(understood.said)
        return [msgspec.json.encode(message) for message in understood.asked] or [_NOTHING]

    def _decoded(self, data: bytes) -> object:
        if values_exceed(data) or has_many_powers(data):
            return None  # what stops at the bound of a message of ours is none here
        try:
            value: Any = msgspec.json.decode(data)
        except (ValueError, RecursionError):
            return None
        return value

    # Writing ----------------------------------------------------------------------------------------------

    def write(self, frame: bytes) -> None:
        """See `Socket`."""
        if self._interpreter is None:
            self.socket.write(frame)
            return
        try:
            told = b"".join(self._told(self._interpreter, frame))
        except Exception:  # noqa: BLE001  as in `heard`
            self._failed()
        else:
            self.socket.write(told)

    def _told(self, interpreter: Interpreter, frames: bytes) -> Iterable[bytes]:
        for kind, payload in unframed(frames):
            if kind != TEXT:  # a ping: its length is one byte
                yield bytes((kind, len(payload))) + payload
                continue
            if payload.startswith(interpreter.unchanged):
                yield text_frame(payload)
                continue
            for message in interpreter.say(msgspec.json.decode(payload), self._now_s()):
                yield text_frame(msgspec.json.encode(message))

    def _say(self, messages: Iterable[Message]) -> None:
        said = b"".join(text_frame(msgspec.json.encode(message)) for message in messages)
        if said:
            self.socket.write(said)

    def _failed(self) -> None:
        _log.exception("tongue_failed")
        self.socket.end(CloseCode.SERVER_FAULT, en.FAULT, self._settings.close_timeout_s)

    def end(self, code: int, reason: str, deadline_s: float) -> None:
        """See `Socket`."""
        if self._interpreter is not None:
            code = self._interpreter.close_code(code)
        self.socket.end(code, reason, deadline_s)

    # What else a connection asks of it --------------------------------------------------------------------

    def direct(self, leave: Callable[[], None]) -> None:
        """See `Socket`: it is always written to by `write`."""

    def on_its_own(self) -> None:
        """See `Socket`."""

    def trust(self, if_too_large: Sequence[bytes] = ()) -> None:
        """See `Socket`."""
        interpreter: object = self._interpreter
        try:
            if isinstance(interpreter, SaysTooLarge):
                said = interpreter.too_large(self._settings.message_bytes_max)
                if_too_large = [msgspec.json.encode(message) for message in said]
        except Exception:  # noqa: BLE001  as in `heard`
            self._failed()
        self.socket.trust(if_too_large)
