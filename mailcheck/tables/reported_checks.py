"""The checks that an embedding application reported and did not end. Those of our own are effects."""

from collections.abc import AsyncIterator

import msgspec

from huahuo.eventstore.port import Log
from huahuo.mailcheck.tables.records import CHECKS, OpenCheck, number_of

_PAGE_ROWS = 500


async def reported_checks(log: Log) -> AsyncIterator[tuple[int, int]]:
    """(mailbox id, check id) of each of them that is open. Those that open meanwhile may be missing.

    Raises:
        Unavailable, Closed: the log could not be read.
    """
    before: bytes | None = None
    while rows := await log.rows(CHECKS, "", before=before, limit=_PAGE_ROWS):
        for key, value in rows:
            check = msgspec.json.decode(value, type=OpenCheck)
            if check.implicit:
                yield number_of(key), check.check_id
        before = rows[-1][0]
