"""The index of all mails, which follows the log and runs behind it.

A follower puts each mail of `mail_received` into the index, together with its own place in the log, in one
transaction: a crash neither loses nor doubles a mail, and a lost file is made anew from the log's start.
When a mailbox is deleted, the purge of its mails first drops them here, while their texts are still there.
Both happen under one lock: a mail is put only while its record exists, and its record goes after its
entry.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from huahuo.actors.followers.follower import Follower, Followers
from huahuo.actors.followers.spec import Followed, FollowerRun, Spec
from huahuo.actors.plugins.plugin import Host, Standing
from huahuo.eventstore.errors import Closed, Corrupt, Unavailable
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.fulltext.index import TextIndex, Unusable, is_outer
from huahuo.eventstore.fulltext.words import Ask, Entry, Found, Place
from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.port import Log
from huahuo.mailcheck import records
from huahuo.mailcheck.api.rosters import record_of

_MAIL_RECEIVED: Final = "mail_received"
_KEPT: Final = "contents_kept"
_RETRIES: Final = 5
"""After as many a mail that cannot be put is left out, and waits as a dead letter for a rebuild."""
_BATCH: Final = 200
_REBUILD: Final = f"huahuo projections rebuild {records.INDEX_NAME}"

_log = structlog.get_logger(__name__)
_place = msgspec.json.Decoder(records.MailPlace).decode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class MailIndex:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._log: Log = host.log
        self._executor: Executor = host.executor
        self._path: Path | None = None if host.files is None else host.files / records.INDEX_FILE
        self._index: TextIndex | None = None
        self._lock = asyncio.Lock()
        spec = Spec(
            name=records.INDEX_NAME,
            kinds=frozenset({"user", "mailbox"}),
            types=frozenset({_MAIL_RECEIVED, _KEPT}),
            passing=True,
            handler=self._take,
            wants_run=True,
            cursor=self._cursor,
            batch=_BATCH,
            retries=_RETRIES,
            waits_out=_is_outer,
        )
        self._followers = Followers([spec], log=host.log, feed=host.feed, ambient=host.ambient, read=_read)
        host.projections[records.INDEX_NAME] = self
        host.metrics.gauge("mail_search_lag_events", "Events behind the index of mails.", lambda: self.lag)

    @property
    def _follower(self) -> Follower:
        return self._followers.by_name[records.INDEX_NAME]

    @property
    def lag(self) -> int:
        """Events of the log, of any kind, that are not in the index."""
        return self._follower.lag

    async def start(self) -> None:
        """Open the index and go on where it is. Raises as `Followers.start`."""
        path = self._path
        self._index = await self._executor.run(lambda: TextIndex(path, records.FIELDS))
        await self._followers.start()
        if self._follower.dead and await self._executor.run(lambda: self._opened().place) == Place("", 0):
            await self.retry("")  # it is made anew, so they are taken up too

    async def drain(self, timeout_s: float) -> None:
        """Let the batch under way come to its end."""
        await self._followers.drain(timeout_s)

    async def close(self) -> None:
        """Stop, and close the file. Idempotent."""
        await self._followers.close()
        index, self._index = self._index, None
        if index is not None:
            with contextlib.suppress(RuntimeError):  # the executor is closed: the process ends
                await self._executor.run(index.close)

    async def idle(self) -> None:
        """Return when the index is where the log is."""
        await self._followers.idle()

    async def find(self, ask: Ask) -> list[Found]:
        """The next matches. Raises Unusable: the file is damaged, and the index begins anew."""
        index = self._opened()
        try:
            return await self._executor.run(lambda: index.find(ask))
        except Unusable:
            await self.mend()
            raise

    async def mend(self) -> None:
        """Begin anew, because the file is damaged."""
        async with self._lock:
            await self._begin_anew("damage")

    @contextlib.asynccontextmanager
    async def forgetting(self, mails: Sequence[records.MailRecord]) -> AsyncIterator[None]:
        """Drop these mails. The block removes their records and contents; meanwhile, no mail is put."""
        async with self._lock:
            try:
                await self._forget(mails)
            except Unusable:
                await self._begin_anew("damage")
            yield

    async def _forget(self, mails: Sequence[records.MailRecord]) -> None:
        index = self._opened()
        variants = await self._executor.run(lambda: index.variants([one.mail_id for one in mails]))
        entries: list[Entry] = []
        for record in mails:
            found = await self._log.row(records.MAIL, "", records.mail_key(record.mail_id))
            variant = variants.get(record.mail_id)
            if variant is None or found is None:
                continue
            content = None if variant == records.WITHOUT_CONTENT else await self._content(record)
            if variant not in (records.WITHOUT_CONTENT, records.variant_of(record)) or (
                content is None and variant
            ):
                raise Unusable("what was put cannot be known any more, so it cannot be dropped")
            entries.append(records.entry_of(record, _place(found).user_id, content))
        if entries:
            await self._executor.run(lambda: index.drop(entries))

    # -- as a projection -------------------------------------------------------------------------

    def standing(self) -> Standing:
        """See `Projection`."""
        return self._follower.standing("index")

    async def pause(self, by: str, *, paused: bool) -> None:
        """See `Projection`."""
        await self._follower.pause(by, paused=paused)

    async def retry(self, by: str) -> int:
        """See `Projection`."""
        return await self._follower.retry(by)

    async def rebuild(self, by: str) -> None:
        """See `Projection`. Mails that were left out are tried again."""
        async with self._lock:
            await self._begin_anew(by)
        await self.retry(by)

    async def _begin_anew(self, by: str) -> None:
        _log.warning("mail_search_begun_anew", by=by)
        await self._executor.run(self._opened().begin_anew)
        self._follower.start_over()

    # -- what feeds it ----------------------------------------------------------------------------

    async def _cursor(self) -> int:
        index = self._opened()
        place = await self._executor.run(lambda: index.place)
        if place.log_id == self._log.log_id and place.position <= self._log.position:
            return place.position
        if place != Place("", 0):
            _log.warning("mail_search_of_another_log", position=place.position)
            await self._executor.run(index.begin_anew)
        return 0

    async def _take(self, events: Sequence[Followed], run: FollowerRun) -> None:
        index = self._opened()
        async with self._lock:
            place = Place(self._log.log_id, run.position)
            try:
                entries = [
                    entry
                    for event in events
                    if event.type == _MAIL_RECEIVED
                    and (entry := await self._entry(event.data["mail_id"])) is not None
                ]
                entries += await self._read_later(events)
                await self._executor.run(lambda: index.put(entries, place))
            except Exception as error:
                if isinstance(error, Unusable):
                    await self._begin_anew("damage")
                if run.attempt > _RETRIES and len(events) == 1 and not _is_outer(error):
                    _log.error(
                        "mail_left_out_of_search", mails=_mails_of(events[0]), stream=events[0].stream,
                        error=type(error).__name__, what_to_do=_REBUILD,
                    )  # fmt: skip
                raise

    async def _read_later(self, events: Sequence[Followed]) -> list[Entry]:
        """Mails whose content was read after their headers. What was put of the headers is dropped."""
        kept = [mail for event in events if event.type == _KEPT for mail in event.data["mails"]]
        if not kept:
            return []
        index = self._opened()
        variants = await self._executor.run(lambda: index.variants([mail["mail_id"] for mail in kept]))
        stale: list[Entry] = []
        entries: list[Entry] = []
        for mail in kept:
            found = await record_of(self._log, mail["mail_id"])
            if (
                found is None
                or variants.get(mail["mail_id"], records.WITHOUT_CONTENT) != records.WITHOUT_CONTENT
            ):
                continue
            record, place = found
            if mail["mail_id"] in variants:
                headers = msgspec.structs.replace(record, has_attachments=mail["attached"])
                stale.append(records.entry_of(headers, place.user_id, None))
            content = await self._content(record)
            entries.append(
                await self._executor.run(partial(records.entry_of, record, place.user_id, content))
            )
        if stale:
            await self._executor.run(lambda: index.drop(stale))
        return entries

    async def _entry(self, mail_id: int) -> Entry | None:
        """A mail, None if its mailbox was deleted."""
        found = await record_of(self._log, mail_id)
        if found is None:
            return None
        record, place = found
        content = await self._content(record)
        return await self._executor.run(lambda: records.entry_of(record, place.user_id, content))

    async def _content(self, record: records.MailRecord) -> bytes | None:
        if not record.blob:
            return None  # it is read later
        try:
            return await self._log.blob(record.blob)
        except Corrupt:
            return None  # the mail is found by its subject

    def _opened(self) -> TextIndex:
        if self._index is None:
            raise RuntimeError("the index of mails is not open")
        return self._index


def _is_outer(error: BaseException) -> bool:
    """Whether every mail would fail so: the disk, the memory, or the log while it cannot be read."""
    return is_outer(error) or isinstance(error, Unavailable | Closed)


def _mails_of(event: Followed) -> list[int]:
    """The numbers of the mails that an event tells of."""
    mails = event.data["mails"] if event.type == _KEPT else [event.data]
    return [mail["mail_id"] for mail in mails]


def _read(event: StoredEvent) -> Followed:
    return Followed(event.position, event.stream, event.seq, event.type, _decode(event.body))
