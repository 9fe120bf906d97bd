"""What follows from the verdict about a token, on every way in: it is counted, logged, and held back."""

from collections.abc import Awaitable

from huahuo.transport.access.verified import NOT_NOW, AuthFailure, Verdict
from huahuo.transport.server.alarms import tell_refused
from huahuo.transport.server.wires import Wires


def note_verdict(wires: Wires, verdict: Verdict, address: str) -> float | Awaitable[float]:
    """Note it; returns the seconds for which its answer is to be held back."""
    if not isinstance(verdict, AuthFailure):
        wires.meter.authenticated("ok")
        return 0.0
    wires.meter.authenticated(verdict.code)
    now_s = wires.ambient.monotonic_s()
    tell_refused(verdict, address, wires.notices, now_s)
    return 0.0 if verdict.code == NOT_NOW else wires.door.auth_failed(address, now_s)
