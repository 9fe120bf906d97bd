"""What the tests of the services around a session share: calls, and a connection that only remembers."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec

from huahuo.actors.plugins.calls import Call, Principal
from huahuo.eventstore.model import CommandKey
from huahuo.transport.access.rights import Verified
from tests.support.patience import ALL_WITHIN_S
from tests.support.worlds.people import ALICE


def run[T](work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on a loop of its own, with a deadline."""

    async def timed() -> T:
        async with asyncio.timeout(ALL_WITHIN_S):  # it may start programs
            return await work

    return asyncio.run(timed())


def call(
    params: Any = None,
    *,
    id: str | None = None,  # noqa: A002  the wire's word
    principal: Principal = ALICE,
    client: str = "laptop",
    action: str = "act",
    fingerprint: bytes | None = None,
) -> Call[Any]:
    """A call as a session makes it; the fingerprint follows from the params."""
    key = None if id is None else CommandKey(principal.name, client, id)
    content = msgspec.json.encode([action, params], order="deterministic")
    return Call(
        principal=principal,
        session="s-1",
        action=action,
        params=params,
        command_id=id or "made",
        key=key,
        fingerprint=content if fingerprint is None else fingerprint,
    )


def body(reply_body: bytes) -> dict[str, Any]:
    """A reply's JSON object."""
    decoded: dict[str, Any] = msgspec.json.decode(reply_body)
    return decoded


def verified(user_id: int = 42, *, jti: str = "", iat_ms: int | None = None) -> Verified:
    """A token that holds for a long time."""
    return Verified(Principal(user_id=user_id, username=f"u{user_id}"), 1 << 52, jti, iat_ms)


class Recorder:
    """A live connection without a socket. It records the hub's calls."""

    def __init__(self, cursors: Mapping[str, int] | None = None) -> None:
        self.rests_until_s = 0.0
        self.on_tick: Callable[[], object] = lambda: None
        self.ticks: list[float] = []
        self.wakes: list[float] = []
        self.ticked = asyncio.Event()
        self.closed: list[int] = []
        self.was_closed = asyncio.Event()
        self.fault: Exception | None = None
        self._cursors = dict(cursors or {})

    def tick(self, now_s: float) -> float:
        self.ticks.append(now_s)
        self.ticked.set()
        self.on_tick()
        if self.fault is not None:
            raise self.fault
        return self.rests_until_s

    def wake_up(self, now_s: float) -> None:
        self.wakes.append(now_s)

    def close(self, code: int, reason: str) -> None:
        assert reason
        self.closed.append(int(code))
        self.was_closed.set()
        if self.fault is not None:
            raise self.fault

    def cursors(self) -> Mapping[str, int]:
        return self._cursors
