"""The keys of an issuer, fetched from its address and kept.

A set is fetched again in the background after `FRESH_S`. A token with an unknown kid makes it be fetched at
once, but at most once in `UNKNOWN_S`, so that nobody can make us a burden for the issuer. While the address
does not answer, the keys that were fetched last go on to verify.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from huahuo.eventstore.ambient import Ambient
from huahuo.transport.accounts.fetching import Unreachable, fetch
from huahuo.transport.accounts.key_set import BadKeySet, KeySet

FRESH_S: Final = 300.0
STALE_S: Final = 3600.0
"""Keys of this age are not used before one more try to fetch newer ones: one of them may be withdrawn.

If that try failed, they hold for `FRESH_S` while it is repeated in the background, so that one that hangs
does not delay every sign-in.
"""
UNKNOWN_S: Final = 60.0
FETCH_S: Final = 5.0

type Fetch = Callable[[str, float], Awaitable[bytes]]

_log = structlog.get_logger(__name__)


class KeyServer:
    """See the module."""

    def __init__(self, url: str, ambient: Ambient, fetch: Fetch = fetch) -> None:
        self._url = url
        self._ambient = ambient
        self._fetch = fetch
        self._keys: KeySet | None = None
        self._fetched_s = 0.0
        self._tried_s: float | None = None
        self._unknown_s: float | None = None
        self._under_way: asyncio.Task[None] | None = None
        self.failed = False
        """Whether the last try failed."""

    @property
    def key_count(self) -> int:
        """How many keys it has."""
        return 0 if self._keys is None else len(self._keys)

    def known(self) -> KeySet | None:
        """The keys, if they may be used without waiting. They are renewed in the background."""
        if self._keys is None:
            return None
        now_s = self._ambient.monotonic_s()
        age_s = now_s - self._fetched_s
        if age_s >= FRESH_S and self._may_try():
            tried = self.failed and self._tried_s is not None and now_s - self._tried_s < FRESH_S
            self._begin()
            if age_s >= STALE_S and not tried:
                return None
        return self._keys

    async def fetched(self) -> KeySet | None:
        """The keys after the fetch that is under way, or after one that is due. None: there are none."""
        if self._under_way is not None or self._may_try():
            await self._wait()
        return self._keys

    async def newer(self) -> KeySet | None:
        """The keys after one more fetch for an unknown kid, if there may be one now."""
        now_s = self._ambient.monotonic_s()
        if self._under_way is not None:
            await self._wait()
        elif self._unknown_s is None or now_s - self._unknown_s >= UNKNOWN_S:
            self._unknown_s = now_s
            await self._wait()
        return self._keys

    async def close(self) -> None:
        """Give up a fetch that is under way."""
        if self._under_way is not None:
            self._under_way.cancel()
            await asyncio.gather(self._under_way, return_exceptions=True)

    def _may_try(self) -> bool:
        """Whether the last try is long enough ago. A failed one is repeated sooner, but not at once."""
        if self._under_way is not None or self._tried_s is None:
            return True
        return self._ambient.monotonic_s() - self._tried_s >= FETCH_S

    async def _wait(self) -> None:
        await asyncio.shield(self._begin())

    def _begin(self) -> asyncio.Task[None]:
        if self._under_way is None:
            self._under_way = asyncio.get_running_loop().create_task(self._renew(), name="fetch keys")
            self._under_way.add_done_callback(self._done)
        return self._under_way

    def _done(self, _task: asyncio.Task[None]) -> None:
        self._under_way = None

    async def _renew(self) -> None:
        self._tried_s = self._ambient.monotonic_s()
        try:
            keys = KeySet(await self._fetch(self._url, FETCH_S))
        except (Unreachable, BadKeySet) as error:
            self.failed = True
            _log.warning("keys_not_fetched", url=self._url, reason=str(error), keys_kept=self.key_count)
            return
        self.failed = False
        self._keys, self._fetched_s = keys, self._ambient.monotonic_s()
        _log.info("keys_fetched", url=self._url, keys=len(keys), left_out=keys.left_out or None)
