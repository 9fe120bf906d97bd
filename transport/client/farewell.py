"""Why the server ends a connection, as it said before its close, and what follows from that. Pure."""

from typing import NamedTuple

from huahuo.transport.client.retry import Retry, Verdict
from huahuo.transport.protocol.kinds import AuthResult, GoawayFrame


class Close(NamedTuple):
    """How a connection ended. `code` is None if it was lost or never made."""

    code: int | None
    reason: str
    verdict: Verdict


class Farewell:
    """What the server said on this connection: a `goaway`, a refused token, or neither."""

    def __init__(self) -> None:
        self.goaway: GoawayFrame | None = None
        self.failure: AuthResult | None = None

    def close(self, code: int | None, reason: str, now: float, retry: Retry) -> Close:
        """The connection is closed. What the server said counts more than the code, which may be lost."""
        retry_s = self.goaway.retry_s if self.goaway else None
        if self.goaway is not None:
            code, reason = self.goaway.code, self.goaway.reason or reason
        failure = self.failure.code if self.failure else ""
        verdict = retry.closed(code, now, retry_s, failure)
        if self.failure is not None:
            reason = f"{failure}: {verdict.why}"
        return Close(code, reason or verdict.why, verdict)
