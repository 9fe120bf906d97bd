"""What happens to a mailbox while a request waits: its next mail with a code, and how its checks end.

The log is listened to while anybody waits, and not otherwise.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from huahuo.eventstore.model import StoredEvent
from huahuo.eventstore.port import Log
from huahuo.mailcheck.events import STATUSES_TERMINAL, EmailStatusUpdate, MailReceived
from huahuo.mailcheck.stored_events import read


class Arrival(msgspec.Struct):
    """What came so far of mails behind `after` that were received since `oldest` (RFC 3339, UTC).

    `changed` is set by each event, and cleared by the reader that looks.
    """

    changed: asyncio.Event
    oldest: str
    after: int
    mail: MailReceived | None = None
    ended: EmailStatusUpdate | None = None

    @property
    def has_mail(self) -> bool:
        """Whether a mail with a code came."""
        return self.mail is not None

    async def news(self) -> None:
        """Return when a mail with a code came, or a check ended."""
        while self.mail is None and self.ended is None:
            self.changed.clear()
            await self.changed.wait()


class Arrivals:
    """See the module. All methods belong to the loop's thread."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._waiting: dict[tuple[str, int], list[Arrival]] = {}
        self._unlisten: Callable[[], None] | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return sum(map(len, self._waiting.values()))

    @contextmanager
    def of(self, stream: str, email_id: int, *, oldest: str, after: int) -> Iterator[Arrival]:
        """What comes from now on to a mailbox of the user of `stream`."""
        arrival, place = Arrival(asyncio.Event(), oldest, after), (stream, email_id)
        self._waiting.setdefault(place, []).append(arrival)
        if self._unlisten is None:
            self._unlisten = self._log.listen(self._heard)
        try:
            yield arrival
        finally:
            self._waiting[place].remove(arrival)
            if not self._waiting[place]:
                del self._waiting[place]
            if not self._waiting and self._unlisten is not None:
                self._unlisten()
                self._unlisten = None

    def _heard(self, events: Sequence[StoredEvent]) -> None:
        streams = {stream for stream, _ in self._waiting}
        for event in events:
            if event.stream not in streams:
                continue
            body = read(event)
            if isinstance(body, MailReceived) and isinstance(body.code, str):
                for arrival in self._waiting.get((event.stream, body.email_id), ()):
                    if body.received_time >= arrival.oldest and body.mail_id > arrival.after:
                        arrival.mail = body
                        arrival.changed.set()
            elif isinstance(body, EmailStatusUpdate) and body.status in STATUSES_TERMINAL:
                for arrival in self._waiting.get((event.stream, body.email_id), ()):
                    arrival.ended = body
                    arrival.changed.set()
