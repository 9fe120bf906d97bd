"""The links of the hash chain that a client's checks are compared with."""

from collections.abc import Mapping, Sequence

import structlog

from huahuo.eventstore.errors import EventStoreError
from huahuo.replay.live.feed import Feed

BEYOND = b""
"""Instead of the link of an event that is not in the log."""
_log = structlog.get_logger(__name__)


async def found_links(feed: Feed, places: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], bytes]:
    """The links at these (stream, seq), from the store. One that cannot be read stays unknown.

    Where other nodes write the log, a place beyond the head here is waited for. It is in the answer, with
    `BEYOND`, if it is beyond the head of the log itself.
    """
    try:
        settled = feed.catch_up is None or await feed.catch_up(places)
        found = await feed.links(places)
        if not settled or feed.catch_up is None:
            return found
        return dict.fromkeys(places, BEYOND) | found
    except EventStoreError:
        _log.warning("checks_not_compared", places=len(places))
        return {}
