"""Log notices about refused clients, limited so that clients cannot fill the log. Pure."""

from typing import Final

from huahuo.transport.protocol.token_bucket import TokenBucket

NOTICES_PER_MINUTE: Final = 6
NOTICES_BURST: Final = 6


class Notices:
    """Lets through at most six notices of each kind a minute and counts the others."""

    def __init__(self) -> None:
        self._buckets: dict[str, TokenBucket] = {}
        self._held_back: dict[str, int] = {}

    def due(self, kind: str, now_s: float) -> int | None:
        """How many of this kind were held back since the last notice. None: hold this one back too.

        `kind` is a constant in the code, never text of a client, so the table stays small.
        """
        bucket = self._buckets.get(kind)
        if bucket is None:
            bucket = self._buckets[kind] = TokenBucket(NOTICES_PER_MINUTE / 60, NOTICES_BURST, now_s)
        if not bucket.take(now_s):
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return None
        return self._held_back.pop(kind, 0)
