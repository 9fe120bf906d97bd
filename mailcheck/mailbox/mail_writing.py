"""What one decision of a mailbox writes about mails: their events, records and contents. Pure."""

from collections.abc import Mapping, Sequence

from msgspec import UNSET
from msgspec.structs import replace

from huahuo.eventstore.blobs import blob_id
from huahuo.eventstore.model import RowDrop, RowPut
from huahuo.mailcheck.effects import ReadBodies
from huahuo.mailcheck.events import (
    ContentsKept,
    CursorMoved,
    FoundMail,
    KeptMail,
    MailReceived,
    UnreadThere,
)
from huahuo.mailcheck.fetched import FetchedMail, UidCursor
from huahuo.mailcheck.mailbox.commands import Content, SeeUnread
from huahuo.mailcheck.mailbox.identity import Equals, Known, digest_of, encoded, place_of
from huahuo.mailcheck.mailbox.state import unread_digest
from huahuo.mailcheck.mailbox.writing import Writing
from huahuo.mailcheck.tables.records import (
    CODE_CHARS_MAX,
    FOLDER_CHARS_MAX,
    KNOWN,
    MISSING,
    SENDER_CHARS_MAX,
    SOURCES,
    SUBJECT_CHARS_MAX,
    UNREAD_BODIES,
    MailRecord,
    clean,
    email_key,
    mail_key,
    mail_rows,
    received_ms,
    recipients_of,
    record_key,
    remote_put,
    rfc3339,
    unread_put,
)


class MailboxWriting(Writing):
    """Gathers what one decision writes. It never changes the state."""

    def mails(
        self, fresh: list[FetchedMail], cursor: UidCursor, check_id: int, equals: Mapping[bytes, Equals]
    ) -> None:
        """Add new mails with their records and contents, and the cursor after them."""
        state = self.state
        place = place_of(state.server, cursor.folder, cursor.uidvalidity)
        known: dict[bytes, list[Known]] = {}
        new: list[FetchedMail] = []
        same: list[tuple[int, int]] = []
        for mail in fresh:
            digest = digest_of(mail)
            before = equals.get(digest, Equals())
            mails = known.setdefault(digest, list(before.mails))
            at = next((n for n, one in enumerate(mails) if place not in one.places), None)
            if mail.remote_id:
                self._rows.append(remote_put(state.email_id, mail.remote_id))
            if at is None:
                mails.append(Known(0, received_ms(mail, self.context.now_ms), (place,)))
                new.append(mail)
            else:
                mails[at] = mails[at].met_in(place)
                same.append((mails[at].mail_id, mail.uid))
                self._met(before.record(mails[at].mail_id), mails[at].received_ms, mail)
        found = self._new(new, known)
        for digest, mails in known.items():
            self._rows.append(RowPut(KNOWN, str(state.email_id), digest, encoded(mails)))
        self.fact(
            CursorMoved(
                timestamp=self.context.timestamp,
                check_id=check_id,
                folder=cursor.folder,
                uidvalidity=cursor.uidvalidity,
                uid=cursor.uid,
                mails=tuple(found),
                link=cursor.link or UNSET,
                rest=cursor.rest or UNSET,
                same=tuple(same) or UNSET,
            )
        )

    def _new(self, new: list[FetchedMail], known: dict[bytes, list[Known]]) -> list[FoundMail]:
        """Add new mails; they get their ids in `known` too."""
        state, now = self.state, self.context.timestamp
        first = self.context.take("mail", len(new)) if new else 0
        found = []
        for mail_id, mail in enumerate(new, start=first):
            mails = known[digest_of(mail)]
            at = next(n for n, one in enumerate(mails) if not one.mail_id)
            moment_ms = mails[at].received_ms
            mails[at] = Known(mail_id, moment_ms, mails[at].places)
            record = MailRecord(
                mail_id=mail_id,
                email_id=state.email_id,
                subject=clean(mail.subject, SUBJECT_CHARS_MAX),
                sender=clean(mail.sender, SENDER_CHARS_MAX),
                received_time=rfc3339(moment_ms),
                folder=clean(mail.folder, FOLDER_CHARS_MAX),
                has_attachments=mail.has_attachments,
                size=mail.size,
                blob=blob_id(mail.content) if mail.content else "",
                code=clean(mail.code, CODE_CHARS_MAX) or UNSET,
                code_confidence=mail.code_confidence if mail.code else UNSET,
                uid=mail.uid,
                uidvalidity=mail.uidvalidity,
                remote_id=mail.remote_id or UNSET,
                recipients=recipients_of(mail.recipients),
            )
            self.say(
                MailReceived(
                    timestamp=now,
                    email_id=record.email_id,
                    mail_id=mail_id,
                    subject=record.subject,
                    sender=record.sender,
                    received_time=record.received_time,
                    folder=record.folder,
                    has_attachments=record.has_attachments,
                    code=record.code,
                    code_confidence=record.code_confidence,
                )
            )
            self._rows += mail_rows(record, state.user_id, moment_ms)
            if mail.content:
                self._blobs.append(mail.content)
            else:
                self._rows.append(RowPut(MISSING, str(state.email_id), record_key(moment_ms, mail_id), b""))
            if mail.source:
                source = blob_id(mail.source).encode()
                self._rows.append(RowPut(SOURCES, str(state.email_id), mail_key(mail_id), source))
                self._blobs.append(mail.source)
            found.append(FoundMail(mail_id, mail.uid, mail.size, record.blob, mail.remote_id or UNSET))
        if any(not mail.content for mail in new):
            self._rows.append(RowPut(UNREAD_BODIES, "", email_key(state.email_id), b""))
            self._effects.append(ReadBodies(state.email_id))
        return found

    def contents(self, contents: Sequence[Content]) -> None:
        """Add the contents of mails that were told by their headers."""
        kept = []
        for one in contents:
            record = replace(one.record, blob=blob_id(one.content), has_attachments=one.has_attachments)
            self._rows += mail_rows(record, self.state.user_id, one.received_ms)
            key = record_key(one.received_ms, record.mail_id)
            self._rows.append(RowDrop(MISSING, str(self.state.email_id), key))
            self._blobs.append(one.content)
            kept.append(KeptMail(record.mail_id, record.blob, one.record.has_attachments))
        self.fact(ContentsKept(timestamp=self.context.timestamp, mails=tuple(kept)))

    def unread(self, seen: SeeUnread) -> None:
        """Add which mails of a folder are unread there, if that changed."""
        digest = unread_digest(seen.uidvalidity, seen.uids)
        told = self.state.unread.get(seen.folder)
        if digest == told or (told is None and not seen.uids):
            return
        fact = UnreadThere(
            timestamp=self.context.timestamp,
            folder=seen.folder,
            uidvalidity=seen.uidvalidity,
            uids=seen.uids,
        )
        self.fact(fact)
        self._rows.append(unread_put(self.state.email_id, seen.folder, seen.uidvalidity, seen.uids))

    def _met(self, record: MailRecord | None, moment_ms: int, mail: FetchedMail) -> None:
        """A known mail was met in another place, so its record says that one."""
        if record is not None:
            folder = clean(mail.folder, FOLDER_CHARS_MAX)
            place = {"folder": folder, "uid": mail.uid, "uidvalidity": mail.uidvalidity}
            moved = replace(record, **place, remote_id=mail.remote_id or UNSET)
            self._rows += mail_rows(moved, self.state.user_id, moment_ms)
