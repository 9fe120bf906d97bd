"""The state of a client's connection: listeners that are told of it, and tasks that wait for a change."""

import asyncio
import logging
from collections.abc import Callable

from huahuo.transport.client.model import ClientStopped, Offline, State, Status

_log = logging.getLogger("huahuo.client")


class Standing:
    """See the module.

    A program without a listener would wait in silence for a service that does not run or whose address is
    wrong. So until the client has been online once, the first failed attempt is logged for it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._silent = True
        """Nothing was logged, and the client was never online."""
        self.state: State = "offline"
        self.error: ClientStopped | None = None
        """Why the client has stopped for good."""
        self._listeners: list[Callable[[Status], None]] = []
        self._changed = asyncio.Event()

    def listen(self, listener: Callable[[Status], None]) -> Callable[[], None]:
        """Call `listener` with each status from now on; returns a function that ends this."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def tell(self, status: Status) -> None:
        """Call all listeners. What one raises goes to the loop's exception handler."""
        if self._silent and not self._listeners and isinstance(status, Offline):
            self._silent = False
            _log.warning("%s: not connected: %s; trying again until it is", self._url, status.reason)
        for listener in list(self._listeners):
            try:
                listener(status)
            except Exception as error:  # noqa: BLE001  a listener's fault is not the connection's
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a status listener failed", "exception": error}
                )

    def change(self, state: State) -> None:
        """The connection has another state."""
        self.state = state
        self._silent = self._silent and state != "online"
        self._changed.set()

    def stop(self, error: ClientStopped) -> None:
        """The client has stopped for good."""
        self.error = error
        self.change("stopped")

    def raise_if_stopped(self) -> None:
        """Raise the reason, if the client has stopped."""
        if self.error is not None:
            raise self.error

    async def wait_online(self) -> None:
        """Wait until the server has accepted the token. Raises ClientStopped: it never will."""
        while self.state != "online":
            self.raise_if_stopped()
            self._changed.clear()
            await self._changed.wait()

    async def wait_stopped(self) -> ClientStopped:
        """Wait until the client has stopped for good; returns the reason."""
        while self.error is None:
            self._changed.clear()
            await self._changed.wait()
        return self.error
