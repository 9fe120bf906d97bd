"""What the API hands on to rooms above it: Durable Streams, and other nodes of the log."""

from collections.abc import Callable
from typing import Protocol

from huahuo.actors.plugins.calls import RefuseGrowth
from huahuo.transport.access.verified import Verified
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.messages import Answer, Request
from huahuo.transport.http.outlet import Outlet, Reader


class DurableStreams(Protocol):
    """Serves what is under `/ds/` (`transport.durable_streams`)."""

    refuse_growth: RefuseGrowth | None

    def without_token(self, request: Request, address: str) -> Verified | None:
        """Who asks, if this request needs no token."""
        ...

    async def answer(self, visit: Visit, body: bytes) -> Answer:
        """Answer a request that does not ask for server-sent events."""
        ...

    def follow(self, visit: Visit, outlet: Outlet, gone: Callable[[], None]) -> Reader:
        """Open a reader of server-sent events; `gone` is called once, at its end."""
        ...


class NodesDoor(Protocol):
    """Answers other nodes of the log, under `/nodes/` (`huahuo.cluster.door`)."""

    body_bytes_max: int

    def admit(self, request: Request, name: str, address: str) -> Verified | Answer:
        """Which node asks, by the request's head; or the refusal."""
        ...

    async def answer(self, visit: Visit, body: bytes) -> Answer:
        """Answer a request that was admitted."""
        ...
