"""When a failed request is tried again, inside the running check. A thin shell around pure rules."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from huahuo.eventstore.ambient import Ambient
from huahuo.mailcheck.servers.faults import (
    ConnectFailed,
    ConnectionLost,
    DnsFailed,
    HttpFailed,
    MailFault,
    ProxyFailed,
    TimedOut,
    TlsFailed,
)

WITHIN_S: Final = 30.0
"""No try begins later than this after the first one."""
TIMEOUT_S: Final = 7.0
"""For one answer, so that four tries of a hung server begin within `WITHIN_S`."""
_PAUSE_S: Final = 0.5
_PAUSE_MAX_S: Final = 8.0
_TRIES_MAX: Final = 16


def is_passing(fault: MailFault) -> bool:
    """Whether a later try without any change may succeed."""
    match fault:
        case HttpFailed():
            return fault.passing
        case TlsFailed():
            return not fault.certificate
        case DnsFailed() | ConnectFailed() | ProxyFailed() | TimedOut() | ConnectionLost():
            return True
        case _:
            return False


def pause_s(fault: MailFault, failures: int, chance: float) -> float:
    """The pause after `failures` in turn: doubled each time, never less than the server asked for."""
    backoff: float = min(_PAUSE_MAX_S, _PAUSE_S * 2.0 ** min(failures - 1, 10)) * (0.75 + chance / 2)
    asked = fault.retry_after_s if isinstance(fault, HttpFailed) else None
    return max(backoff, asked or 0.0)


async def with_retries[T](ambient: Ambient, attempt: Callable[[], Awaitable[T]]) -> T:
    """The first answer of `attempt`. Raises its last fault, or the first that does not pass."""
    last_s = ambient.monotonic_s() + WITHIN_S
    failures = 0
    while True:
        try:
            return await attempt()
        except MailFault as fault:
            failures += 1
            wait_s = pause_s(fault, failures, ambient.random())
            too_late = failures >= _TRIES_MAX or ambient.monotonic_s() + wait_s > last_s
            if too_late or not is_passing(fault):
                raise
        await asyncio.sleep(wait_s)
