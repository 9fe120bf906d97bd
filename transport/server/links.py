"""The links of the hash chain that a client's checks are compared with."""

from collections.abc import Mapping, Sequence

import structlog

from huahuo.eventstore.errors import EventStoreError
from huahuo.replay.live.feed import Feed

_log = structlog.get_logger(__name__)


async def found_links(feed: Feed, places: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], bytes]:
    """The links at these (stream, seq), from the store. One that cannot be read stays unknown."""
    try:
        return await feed.links(places)
    except EventStoreError:
        _log.warning("checks_not_compared", places=len(places))
        return {}
