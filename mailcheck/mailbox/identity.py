"""Which mails are one mail. Pure.

A UID names a mail in one folder under one UIDVALIDITY: a place. Two UIDs of one place are two mails, however
equal they are. If a mail of the same Message-ID was known in other places only, it was moved or copied, or
the server gave its folder new UIDs: it is that mail. Of several equal ones each is met once per place.
"""

from hashlib import blake2b
from typing import Final

import msgspec

from huahuo.mailcheck.fetched import FetchedMail
from huahuo.mailcheck.tables.records import MailRecord

EQUAL_MAX: Final = 100
"""Mails with one Message-ID that are kept apart. More of them are told whenever their folder has new UIDs."""
PLACES_MAX: Final = 16
_DIGEST_BYTES: Final = 16


class Known(msgspec.Struct, frozen=True, array_like=True):
    """A known mail, and the places where it was met."""

    mail_id: int
    received_ms: int
    places: tuple[str, ...]

    def met_in(self, place: str) -> "Known":
        """The same mail, met in one more place. The oldest places are forgotten first."""
        return Known(self.mail_id, self.received_ms, (*self.places, place)[-PLACES_MAX:])


class Equals(msgspec.Struct, frozen=True):
    """The known mails that are equal to one that was fetched, with the records that are at hand."""

    mails: tuple[Known, ...] = ()
    records: tuple[MailRecord, ...] = ()

    def record(self, mail_id: int) -> MailRecord | None:
        """The record of one of them."""
        return next((record for record in self.records if record.mail_id == mail_id), None)


def place_of(server: str, folder: str, uidvalidity: int) -> str:
    """The name of a place."""
    return f"{server.lower()}/{uidvalidity}/{folder}"


def digest_of(mail: FetchedMail) -> bytes:
    """What equal mails have in common: the Message-ID, or without one what a reader sees first."""
    said = mail.message_id
    if not said:
        said = f"\0{mail.date_ms}\0{mail.size}\0{mail.sender}\0{mail.subject}"
    return blake2b(said.encode("utf-8", "replace"), digest_size=_DIGEST_BYTES).digest()


def encoded(mails: list[Known]) -> bytes:
    """The row of the table `known`."""
    return msgspec.json.encode(mails[-EQUAL_MAX:])


def decoded(row: bytes) -> tuple[Known, ...]:
    """See `encoded`."""
    return msgspec.json.decode(row, type=tuple[Known, ...])
