"""Who may connect and sign in, as a worker asks its owner."""

from collections.abc import Awaitable, Sequence
from typing import Final

import msgspec

from huahuo.eventstore.errors import EventStoreError
from huahuo.transport.access.door import AddressDoor, Entry
from huahuo.transport.access.verified import NOT_NOW, AuthFailure, Verdict, Verified
from huahuo.transport.workers.failures import OwnerFailed
from huahuo.transport.workers.messages import AuthFailed, Enter, Judged, Left, Verify
from huahuo.transport.workers.questions import Questions

_ENTRY: Final = msgspec.msgpack.Decoder(str)
_SECONDS: Final = msgspec.msgpack.Decoder(float)
_JUDGED: Final = msgspec.msgpack.Decoder(Judged)


class RemoteDoor:
    """Implements `Door`, except that it asks (`ask`) where a `Door` knows at once (`enter`)."""

    def __init__(self, questions: Questions, trusted_proxies: Sequence[str]) -> None:
        self._questions = questions
        self._addresses = AddressDoor(0, trusted_proxies)

    def address(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """See `Door`."""
        return self._addresses.address(peer, forwarded_for)

    def peer_address(self, peer: str) -> str:
        """See `Door`."""
        return self._addresses.peer_address(peer)

    async def ask(self, address: str) -> Entry:
        """See `Door.enter`. Raises as `Questions.ask`."""
        entry: str = await self._questions.ask(lambda n: Enter(n, address), _ENTRY)
        return Entry(entry)

    def enter(self, address: str) -> Entry:
        """Never called: the usher asks before the server has a socket."""
        raise RuntimeError(f"a worker asks its owner about {address}")

    def leave(self, address: str) -> None:
        """See `Door`."""
        self._questions.say(Left(address))

    def auth_failed(self, address: str, now_s: float) -> Awaitable[float]:  # noqa: ARG002  of the port
        """See `Door`. The owner's clock counts, not `now_s`."""
        return self._questions.ask(lambda n: AuthFailed(n, address), _SECONDS)


class RemoteVerifier:
    """Implements `Verifier`: no worker has the secrets that tokens are judged by."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions

    async def verify(self, token: str, now_ms: int) -> Verdict:  # noqa: ARG002  of the port
        """See `Verifier`."""
        try:
            judged = await self._questions.ask(lambda n: Verify(n, token), _JUDGED)
        except (EventStoreError, OwnerFailed) as error:
            return AuthFailure(NOT_NOW, str(error))
        return judged.verdict

    def still_good(self, verified: Verified, now_ms: int) -> AuthFailure | None:  # noqa: ARG002  of the port
        """Never called in a worker: what is asked again and again is asked over HTTP, of the owner."""
        raise RuntimeError(f"a worker asks its owner about {verified.principal.name}")
