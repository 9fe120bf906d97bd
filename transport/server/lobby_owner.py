"""The lobby of a server: sockets whose client has not authenticated come, hold bytes and leave."""

from huahuo.eventstore.ambient import Ambient
from huahuo.transport.access.door import Door
from huahuo.transport.protocol.limits import TransportSettings
from huahuo.transport.server.admission import peer_of
from huahuo.transport.server.lobby import Lobby
from huahuo.transport.server.ports import InLobby


class LobbyOwner:
    """See the module. Implements `lobby_socket.Owner`."""

    def __init__(self, settings: TransportSettings, door: Door, ambient: Ambient) -> None:
        self._door = door
        self._lobby = Lobby(
            settings.unauthenticated_max,
            settings.open_timeout_s,
            ambient.slept_s,
            per_address_max=settings.unauthenticated_per_address,
            bytes_max=settings.lobby_bytes_max,
            address_of=lambda transport: door.peer_address(peer_of(transport)),
        )

    @property
    def unauthenticated_count(self) -> int:
        """Sockets whose client has not authenticated."""
        return len(self._lobby)

    @property
    def lobby_bytes(self) -> int:
        """The bytes of theirs that are not handled: heads of requests, messages, fragments."""
        return self._lobby.held_bytes

    @property
    def cut_off_count(self) -> int:
        """Unauthenticated sockets that were closed to make room for another, or held too much, so far."""
        return self._lobby.cut_off_count

    def connected(self, socket: InLobby) -> None:
        """See `lobby_socket.Owner`."""
        self._lobby.enter(socket, socket.address)

    def holds(self, socket: InLobby, held_bytes: int) -> None:
        """See `lobby_socket.Owner`."""
        self._lobby.hold(socket, held_bytes)

    def authenticated(self, socket: InLobby) -> None:
        """See `lobby_socket.Owner`."""
        self._lobby.leave(socket)

    def disconnected(self, socket: InLobby) -> None:
        """See `lobby_socket.Owner`."""
        self._lobby.leave(socket)
        if socket.address:
            self._door.leave(socket.address)
