"""A socket whose client speaks a plug-in's language (`huahuo.actors.plugins.actions`).

The connection behind it serves the document dialect and knows nothing of this. The client's first message
decides once: if no tongue knows it, everything goes straight through from then on.
"""

from collections import deque
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
from huahuo.transport.wire.ports import Heard, Listener, Socket
from huahuo.transport.words import en

_NOTHING: Final = '{"action":"heartbeat_response"}'
"""Stands in for a message that asks the host for nothing, so that it counts against the client's rate."""
_HINT: Final = b'"type"'

_log = structlog.get_logger(__name__)


def _of_socket(name: str) -> Any:
    """What is the socket's own."""

    def get(interpreted: "Interpreted") -> object:
        return getattr(interpreted.socket, name)

    def put(interpreted: "Interpreted", value: object) -> None:
        setattr(interpreted.socket, name, value)

    return property(get, put)


class Interpreted:
    """A socket whose client speaks a plug-in's language (`huahuo.actors.plugins.tongues`).

    Implements `Socket`.
    """

    address: str = _of_socket("address")
    root: str = _of_socket("root")
    trusted: bool = _of_socket("trusted")
    load: Load | None = _of_socket("load")
    transport: Aborted = _of_socket("transport")
    paused: bool = _of_socket("paused")
    is_open: bool = _of_socket("is_open")
    unsent_bytes: int = _of_socket("unsent_bytes")
    close_code: int | None = _of_socket("close_code")
    has_room: Callable[[], bool] = _of_socket("has_room")
    bound_buffer: Callable[[int], None] = _of_socket("bound_buffer")
    go_on: Callable[[], None] = _of_socket("go_on")
    go_on_soon: Callable[[], None] = _of_socket("go_on_soon")

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
        self._asked: deque[str] = deque()

    # Reading ----------------------------------------------------------------------------------------------

    @property
    def listener(self) -> Listener | None:
        """See `Socket`."""
        return self._listener

    @listener.setter
    def listener(self, listener: Listener | None) -> None:
        self._listener = listener
        if listener is not None and not (self._decided and self._interpreter is None):
            listener = _Ears(self, listener)
        self.socket.listener = listener

    async def recv(self) -> str | bytes | None:
        """See `Socket`."""
        while not self._asked:
            data = await self.socket.recv()
            if data is None:
                return None
            if not self._decided:
                self.decide(data)
            if self._interpreter is None:
                return data
            try:
                self._hear(self._interpreter, data)
            except Exception:  # noqa: BLE001  a plug-in's fault ends this connection and no other
                self._failed()
        return self._asked.popleft()

    def decide(self, data: str | bytes) -> bool:
        """Look at the first message. True: no tongue knows it."""
        first = compact_object(data, self._settings.json_depth_max) or self._decoded(data)
        if isinstance(first, dict):
            found = (tongue.interpreter(first) for tongue in self._tongues)
            self._interpreter = next((one for one in found if one is not None), None)
        self._decided = True
        self.listener = self._listener
        return self._interpreter is None

    def _hear(self, interpreter: Interpreter, data: str | bytes) -> None:
        understood = interpreter.hear(self._decoded(data), self._now_s())
        self._say(understood.said)
        self._asked.extend(msgspec.json.encode(message).decode() for message in understood.asked)
        if not understood.asked:
            self._asked.append(_NOTHING)

    def _decoded(self, data: str | bytes) -> object:
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
        except Exception:  # noqa: BLE001  as in `recv`
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
        except Exception:  # noqa: BLE001  as in `recv`
            self._failed()
        self.socket.trust(if_too_large)

    def handed_over(self) -> None:
        """See `Socket`."""
        if not self._asked:
            self.socket.handed_over()

    def handled(self) -> None:
        """See `Socket`."""
        if not self._asked:
            self.socket.handled()


class _Ears:
    """Between a socket and its connection while messages must be translated. Implements `Listener`."""

    __slots__ = ("_listener", "_socket")

    def __init__(self, socket: Interpreted, listener: Listener) -> None:
        self._socket = socket
        self._listener = listener

    @property
    def quick_acks(self) -> None:
        """See `Listener`. Each message is translated."""
        return None

    def took(self, text: bytes) -> bool:
        """See `Listener`. Each message is translated in its turn."""
        del text
        return False

    def heard(self, texts: list[bytes]) -> tuple[int, Heard]:
        """See `Listener`."""
        del texts
        return 0, Heard.QUEUE

    def began(self, text: bytes) -> bool:
        """See `Listener`. A client of ours is served at once, as without tongues."""
        return _HINT not in text and self._socket.decide(text) and self._listener.began(text)

    def owes(self) -> bool:
        """See `Listener`."""
        return self._listener.owes()

    def ponged(self) -> None:
        """See `Listener`."""
        self._listener.ponged()

    def filled(self) -> None:
        """See `Listener`."""
        self._listener.filled()

    def drained(self) -> None:
        """See `Listener`."""
        self._listener.drained()

    def disconnected(self) -> None:
        """See `Listener`."""
        self._listener.disconnected()
