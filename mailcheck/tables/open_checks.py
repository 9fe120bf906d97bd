"""The checks that have not ended according to the log. A restart resumes them, as does a loss of effects."""

from collections.abc import AsyncIterator

import msgspec

from huahuo.eventstore.port import Log
from huahuo.mailcheck.tables.records import CHECKS, OpenCheck, number_of

_PAGE_ROWS = 500


async def open_checks(log: Log) -> AsyncIterator[tuple[int, OpenCheck]]:
    """(mailbox id, check) of every open check. Checks that open meanwhile may be missing.

    Raises:
        Unavailable, Closed: the log could not be read.
    """
    before: bytes | None = None
    while rows := await log.rows(CHECKS, "", before=before, limit=_PAGE_ROWS):
        for key, value in rows:
            yield number_of(key), msgspec.json.decode(value, type=OpenCheck)
        before = rows[-1][0]
