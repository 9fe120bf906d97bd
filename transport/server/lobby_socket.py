"""A socket whose bytes are counted until its client has authenticated. Until then, messages must be small."""

from collections.abc import Sequence
from typing import Any, Protocol, cast

from huahuo.transport.server.acking_socket import AckingSocket
from huahuo.transport.server.last_words import LastWords
from huahuo.transport.server.ports import InLobby


class Owner(Protocol):
    """Counts sockets. Implemented by the server."""

    def connected(self, socket: InLobby) -> None:
        """TCP is connected; the handshake follows."""
        ...

    def holds(self, socket: InLobby, held_bytes: int) -> None:
        """This many bytes of a client that has not authenticated are incomplete or not handled."""
        ...

    def authenticated(self, socket: InLobby) -> None:
        """A token was accepted: the first one, or a refreshed one."""
        ...

    def disconnected(self, socket: InLobby) -> None:
        """TCP is gone."""
        ...


class LobbySocket(AckingSocket):
    """See the module. `address` is set once the door has counted it.

    `open_by_s`: the deadline of the handshake, on the lobby's clock.
    """

    __slots__ = ("_held_bytes", "_owner", "_reading_paused", "address", "open_by_s", "trusted")

    def __init__(self, *args: Any, owner: Owner, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.address = ""
        self.open_by_s = 0.0
        self.trusted = False
        self._owner = owner
        self._held_bytes = 0  # until the client has authenticated
        self._reading_paused = False  # True at most until the request is answered

    def trust(self, if_too_large: Sequence[bytes] = ()) -> None:
        """See `Socket`. It is so from the next frame on."""
        if if_too_large:
            cast("LastWords", self.protocol).if_too_large = if_too_large
        self.protocol.max_message_size = self._settings.message_bytes_max
        self.trusted = True
        self._owner.authenticated(self)

    def _hold(self, change: int) -> None:
        self._held_bytes += change
        self._owner.holds(self, self._held_bytes)

    def _bound_what_waits(self) -> None:
        """Stop reading when too much follows an unanswered request."""
        protocol: Any = self.protocol  # `OpeningProtocol`; no `cast`: it is a call
        waiting: int = protocol.waiting_bytes
        if waiting > self._settings.unauthenticated_bytes_max and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()
