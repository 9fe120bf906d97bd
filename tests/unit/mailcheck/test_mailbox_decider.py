"""A mailbox's decisions about its checks. Given events, when a command, then."""

import msgspec
import pytest

from huahuo.eventstore.blobs import blob_id
from huahuo.mailcheck.events import StopCheck
from huahuo.mailcheck.fetched import UidCursor
from huahuo.mailcheck.mailbox.decider import (
    Begin,
    CheckHeld,
    CheckOver,
    Content,
    Done,
    Finish,
    KeepContents,
    MailsFound,
    MailsSeen,
    NoMailbox,
    Plan,
    Progress,
    ReportProgress,
    ReportStatus,
    SeeUnread,
)
from huahuo.mailcheck.records import (
    MISSING,
    UNREAD,
    MailPlace,
    MailRecord,
    Unread,
    mail_key,
    record_key,
    rfc3339,
)
from huahuo.mailcheck.roster.decider import CheckEmails, DeleteEmails
from tests.support.models.mail_book import NOW_MS, USER, Book, cursor, mail
from tests.support.models.mail_rules import broken_checks, broken_mails

U = f"user/{USER}"
M = "mailbox/1"


@pytest.fixture
def book() -> Book:
    """With mailbox 1."""
    book = Book()
    book.add("a@x.com")
    return book


def queued() -> Book:
    """A book with mailbox 1 and its check 1, queued."""
    book = Book()
    book.add("a@x.com")
    book.roster(USER, CheckEmails((1,)))
    return book


def running() -> Book:
    """The same, the check running."""
    book = queued()
    assert isinstance(book.mailbox(1, Begin(1)), Plan)
    return book


def short(book: Book, after: int) -> list[tuple[object, ...]]:
    """What was said behind `after`, without ids."""
    return [
        (e["type"], *(e[k] for k in ("status", "progress", "message", "subject") if k in e))
        for e in book.said(U, after)
    ]


# -- the way of a check -------------------------------------------------------------------------


def test_a_check_begins_as_processing_at_0_and_is_told_what_to_do() -> None:
    book = queued()
    plan = book.mailbox(1, Begin(1))
    assert plan == Plan(
        email="a@x.com",
        mail_type="imap",
        server="imap.x.com",
        port=993,
        use_ssl=True,
        cursors={},
        user_id=USER,
    )
    assert short(book, 2) == [
        ("email_status_update", "processing", "正在连接邮箱服务器"),
        ("check_progress", 0, "正在连接邮箱服务器"),
    ]
    assert book.types(M)[-1] == "check_started"


def test_the_check_of_a_living_node_is_left_to_it_and_that_of_an_ended_one_goes_on() -> None:
    book = queued()
    living = frozenset({"a.1", "b.1"})
    assert isinstance(book.mailbox(1, Begin(1, "a.1", living)), Plan)
    count = len(book.events)
    assert book.mailbox(1, Begin(1, "b.1", living)) == CheckHeld("a.1")
    assert isinstance(book.mailbox(1, Begin(1, "a.1", living)), Plan)
    assert len(book.events) == count, "nothing is recorded of either"
    assert isinstance(book.mailbox(1, Begin(1, "b.1", frozenset({"b.1"}))), Plan)
    assert book.said(M)[-1] == {"type": "check_started", "check_id": 1, "implicit": False, "by": "b.1"}
    assert len(book.events) == count + 1, "the user is told nothing twice"
    assert book.mailbox(1, Begin(1, "a.2", frozenset({"a.2", "b.1"}))) == CheckHeld("b.1")


def test_a_check_that_goes_on_after_a_restart_says_nothing_and_gets_the_cursors() -> None:
    book = running()
    book.mailbox(1, MailsFound(1, (mail(4),), cursor(4)))
    count = len(book.events)
    plan = book.mailbox(1, Begin(1))
    assert isinstance(plan, Plan)
    assert plan.cursors == {"INBOX": UidCursor("INBOX", 1, 4)}
    assert len(book.events) == count


@pytest.mark.parametrize(
    "late",
    [Begin(9), Progress(9, 5, ""), MailsFound(9, (mail(1),), cursor(1)), Finish(9, "ok")],
    ids=lambda c: type(c).__name__,
)
def test_results_of_another_check_are_ignored(late: Begin) -> None:
    book = running()
    count = len(book.events)
    assert book.mailbox(1, late) == CheckOver()
    assert len(book.events) == count


def test_progress_never_goes_back_and_its_message_is_told_all_the_same() -> None:
    book = running()
    for percent in (10, 60, 30, 60):
        book.mailbox(1, Progress(1, percent, f"at {percent}"))
    told = [e["progress"] for e in book.said(U) if e["type"] == "check_progress"]
    assert told == [0, 10, 60, 60, 60]
    assert short(book, 6)[0] == ("check_progress", 60, "at 30")


def test_a_running_check_cannot_say_100() -> None:
    book = running()
    book.mailbox(1, Progress(1, 100, ""))
    assert short(book, 4) == [("check_progress", 99, "")]


@pytest.mark.parametrize(
    ("found", "message"),
    [(0, "没有找到新邮件"), (1, "检查完成，共 1 封新邮件"), (3, "检查完成，共 3 封新邮件")],
)
def test_a_success_says_how_many_mails_are_new(found: int, message: str) -> None:
    book = running()
    for uid in range(1, found + 1):
        book.mailbox(1, MailsFound(1, (mail(uid),), cursor(uid)))
    before = book.heads[U]
    assert book.mailbox(1, Finish(1, "ok")) == Done()
    assert short(book, before) == [
        ("check_progress", 100, message),
        ("email_status_update", "ok", message),
    ]
    assert book.said(M)[-1] == {"type": "check_ended", "check_id": 1, "status": "ok"}
    assert book.table("checks") == []


@pytest.mark.parametrize("status", ["error", "need_reauth"])
def test_a_failure_ends_at_100_too_with_its_own_message(status: str) -> None:
    book = running()
    book.mailbox(1, Finish(1, status, "登录被拒绝"))  # type: ignore[arg-type]
    assert short(book, 4) == [
        ("check_progress", 100, "登录被拒绝"),
        ("email_status_update", status, "登录被拒绝"),
    ]


def test_a_message_fits_into_json_and_into_its_bound() -> None:
    book = running()
    book.mailbox(1, Progress(1, 5, "x\ud800\0" + "y" * 2000))
    told = book.said(U)[-1]["message"]
    assert told.startswith("x?y")
    assert len(told) <= 1000


# -- mails --------------------------------------------------------------------------------------


def test_new_mails_cursor_rows_and_contents_are_one_append() -> None:
    book = running()
    one, two = mail(4, "First"), mail(6, "Second", has_attachments=True)
    decision = book.mailboxes.decide(
        book.mailbox_state(1), MailsFound(1, (one, two), cursor(6)), book.context()
    )
    assert [(e.stream, e.type) for e in decision.events] == [
        (U, "mail_received"),
        (U, "mail_received"),
        (M, "cursor_moved"),
    ]
    assert decision.blobs == (one.content, two.content)
    fact = msgspec.json.decode(decision.events[-1].body)
    assert (fact["uid"], fact["uidvalidity"], fact["folder"]) == (6, 1, "INBOX")
    assert fact["mails"] == [
        {"mail_id": 1, "uid": 4, "size": 104, "blob": blob_id(one.content)},
        {"mail_id": 2, "uid": 6, "size": 106, "blob": blob_id(two.content)},
    ]


def test_a_mail_is_found_in_its_mailbox_s_list_and_by_its_id() -> None:
    book = running()
    book.mailbox(1, MailsFound(1, (mail(4, "Hello"),), cursor(4)))
    received = NOW_MS - 3_600_000
    value = book.rows["mails", "1", record_key(received, 1)]
    assert msgspec.json.decode(value, type=MailRecord) == MailRecord(
        mail_id=1,
        email_id=1,
        subject="Hello",
        sender="shop@example.com",
        received_time=rfc3339(received),
        folder="INBOX",
        has_attachments=False,
        size=104,
        blob=blob_id(mail(4).content),
        uid=4,
        uidvalidity=1,
    )
    place = msgspec.json.decode(book.rows["mail", "", mail_key(1)], type=MailPlace)
    assert place == MailPlace(USER, 1, received)


def test_what_a_watcher_fetched_is_told_and_known_to_the_next_check(book: Book) -> None:
    book.mailbox(1, MailsSeen((mail(1), mail(2)), cursor(2)))
    assert book.mailbox_state(1).seen["INBOX"] == cursor(2)
    book.mailbox(1, MailsSeen((mail(2), mail(3)), cursor(3)))
    assert book.types(U).count("mail_received") == 3


def test_which_mails_are_unread_is_told_when_it_changed_and_kept_for_lists(book: Book) -> None:
    before = book.heads[M]
    for seen in (
        SeeUnread("INBOX", 1, ""),
        SeeUnread("INBOX", 1, "1:3"),
        SeeUnread("INBOX", 1, "1:3"),
        SeeUnread("INBOX", 2, "1:3"),
    ):
        book.mailbox(1, seen)
    assert [(e["uidvalidity"], e["uids"]) for e in book.said(M, before)] == [(1, "1:3"), (2, "1:3")]
    kept = [value for (table, _, _), value in book.rows.items() if table == UNREAD]
    assert [msgspec.json.decode(one, type=Unread) for one in kept] == [Unread("INBOX", 2, "1:3")]


def test_a_content_that_was_read_after_its_headers_is_kept_with_its_mail() -> None:
    book = running()
    book.mailbox(1, MailsFound(1, (mail(4, content=b""),), cursor(4)))
    assert len(book.table(MISSING)) == 1
    received = NOW_MS - 3_600_000
    record = msgspec.json.decode(book.rows["mails", "1", record_key(received, 1)], type=MailRecord)
    book.mailbox(1, KeepContents((Content(record, received, b"text", has_attachments=True),)))
    assert book.said(M)[-1]["mails"] == [{"mail_id": 1, "blob": blob_id(b"text"), "attached": False}]
    shown = msgspec.json.decode(book.rows["mails", "1", record_key(received, 1)], type=MailRecord)
    assert (shown.blob, shown.has_attachments) == (blob_id(b"text"), True)
    assert (book.blobs[blob_id(b"text")], book.table(MISSING)) == (b"text", [])


def test_equal_mails_are_separate_events() -> None:
    book = running()
    same = [mail(uid, "Your code", content=mail(1).content, message_id="<same@x>") for uid in (1, 2, 3)]
    book.mailbox(1, MailsFound(1, tuple(same), cursor(3)))
    assert [e["mail_id"] for e in book.said(U) if e["type"] == "mail_received"] == [1, 2, 3]
    assert len(book.table("mails")) == 3


def test_what_was_seen_is_not_told_again() -> None:
    book = running()
    book.mailbox(1, MailsFound(1, (mail(1), mail(2)), cursor(2)))
    assert book.mailbox(1, MailsFound(1, (mail(1), mail(2)), cursor(2))) == Done()
    book.mailbox(1, MailsFound(1, (mail(2), mail(3)), cursor(3)))
    assert book.types(U).count("mail_received") == 3
    assert broken_mails(book.events) == []


def test_a_mail_beyond_the_cursor_is_left_for_later() -> None:
    book = running()
    book.mailbox(1, MailsFound(1, (mail(1), mail(9)), cursor(1)))
    book.mailbox(1, MailsFound(1, (mail(9),), cursor(9)))
    assert book.types(U).count("mail_received") == 2
    assert broken_mails(book.events) == []


def test_a_changed_uidvalidity_is_a_fact_and_everything_is_new() -> None:
    book = running()
    book.mailbox(1, MailsFound(1, (mail(5),), cursor(5)))
    book.mailbox(1, MailsFound(1, (mail(1, uidvalidity=2),), cursor(1, uidvalidity=2)))
    assert book.types(M)[-2:] == ["uidvalidity_changed", "cursor_moved"]
    assert book.said(M)[-2] == {"type": "uidvalidity_changed", "folder": "INBOX", "before": 1, "after": 2}
    assert book.mailbox_state(1).seen["INBOX"] == cursor(1, uidvalidity=2)
    assert book.types(U).count("mail_received") == 2


def test_a_server_that_returns_to_an_earlier_uidvalidity_tells_only_new_mails() -> None:
    book = running()
    book.mailbox(1, MailsFound(1, (mail(1), mail(2)), cursor(2)))
    book.mailbox(1, MailsFound(1, (mail(1, uidvalidity=2),), cursor(1, uidvalidity=2)))
    book.mailbox(1, MailsFound(1, (mail(1),), cursor(1)))
    book.mailbox(1, MailsFound(1, (), cursor(0, uidvalidity=2)))
    book.mailbox(1, MailsFound(1, (mail(1), mail(2), mail(3)), cursor(3)))
    assert book.types(U).count("mail_received") == 4
    assert broken_mails(book.events) == []


def test_the_cursor_moves_at_the_end_of_a_check_too() -> None:
    book = running()
    book.mailbox(1, Finish(1, "ok", cursor=cursor(12)))
    assert book.mailbox_state(1).seen["INBOX"] == cursor(12)
    assert book.said(U)[-1]["message"] == "没有找到新邮件"


@pytest.mark.parametrize(
    ("date_ms", "internal_ms", "received_ms"),
    [
        (NOW_MS - 5, NOW_MS - 9, NOW_MS - 9),
        (NOW_MS - 8 * 3_600_000, NOW_MS - 9, NOW_MS - 9),
        (NOW_MS - 900 * 86_400_000, NOW_MS - 9, NOW_MS - 900 * 86_400_000),
        (NOW_MS - 5, None, NOW_MS - 5),
        (NOW_MS + 10 * 86_400_000, NOW_MS - 9, NOW_MS - 9),
        (0, NOW_MS - 9, NOW_MS - 9),
        (-5, None, NOW_MS + 4000),
    ],
    ids=["the server's", "another zone", "a moved mailbox", "its own", "in the future", "in 1970", "neither"],
)
def test_a_mail_s_time_is_the_server_s_unless_the_mail_is_much_older_there(
    date_ms: int, internal_ms: int | None, received_ms: int
) -> None:
    book = running()
    book.mailbox(1, MailsFound(1, (mail(1, date_ms=date_ms, internal_date_ms=internal_ms),), cursor(1)))
    assert book.said(U)[-1]["received_time"] == rfc3339(received_ms)


def test_texts_of_a_mail_fit_into_json_and_into_their_bounds() -> None:
    book = running()
    book.mailbox(1, MailsFound(1, (mail(1, "a\ud800b\0c" + "x" * 5000, sender="s" * 5000),), cursor(1)))
    told = book.said(U)[-1]
    assert told["subject"].startswith("a?bc")
    assert (len(told["subject"]) <= 1000, len(told["sender"])) == (True, 500)


# -- reports of an embedding application --------------------------------------------------------


def test_the_first_report_opens_an_implicit_check(book: Book) -> None:
    book.mailbox(1, ReportStatus("processing", "app works"))
    assert short(book, 1) == [
        ("email_status_update", "processing", "app works"),
        ("check_progress", 0, "app works"),
    ]
    assert book.said(M)[-1] == {"type": "check_started", "check_id": 1, "implicit": True}
    (value,) = [v for (table, _, _), v in book.rows.items() if table == "checks"]
    assert msgspec.json.decode(value) == {"user_id": USER, "check_id": 1, "implicit": True}


def test_progress_opens_one_too(book: Book) -> None:
    book.mailbox(1, ReportProgress(25, "quarter"))
    book.mailbox(1, ReportProgress(20, "back?"))
    assert short(book, 1) == [
        ("email_status_update", "processing", "quarter"),
        ("check_progress", 25, "quarter"),
        ("check_progress", 25, "back?"),
    ]


def test_a_terminal_report_ends_the_implicit_check(book: Book) -> None:
    book.mailbox(1, ReportProgress(100, "all read"))
    book.mailbox(1, ReportStatus("ok", "done"))
    assert short(book, 3) == [("check_progress", 100, "done"), ("email_status_update", "ok", "done")]
    assert book.table("checks") == []
    book.mailbox(1, ReportProgress(5, "again"))
    assert book.said(U)[-1]["check_id"] == 2
    assert broken_checks(book.events) == []


def test_a_terminal_report_out_of_nothing_opens_and_ends_a_check_at_once(book: Book) -> None:
    book.mailbox(1, ReportStatus("error", "failed"))
    assert short(book, 1) == [
        ("check_progress", 100, "failed"),
        ("email_status_update", "error", "failed"),
    ]
    assert (book.types(M)[1:], book.table("checks")) == (["check_started", "check_ended"], [])
    assert broken_checks(book.events, ended=True) == []


def test_a_report_while_a_check_of_ours_runs_is_about_that_check() -> None:
    book = running()
    book.mailbox(1, ReportProgress(50, "half"))
    book.mailbox(1, ReportStatus("ok", "done"))
    assert {e["check_id"] for e in book.said(U) if "check_id" in e} == {1}
    assert book.effects[-1] == StopCheck(1)
    assert book.mailbox(1, Finish(1, "ok")) == CheckOver()
    assert broken_checks(book.events, ended=True) == []


def test_a_mailbox_that_never_was_or_is_gone_takes_no_report() -> None:
    book = Book()
    assert book.mailbox(9, ReportProgress(5, "")) == NoMailbox()
    book.add("a@x.com")
    book.roster(USER, DeleteEmails((1,)))
    assert book.mailbox(1, ReportStatus("ok", "")) == NoMailbox()


# -- the fold -----------------------------------------------------------------------------------


def test_a_keyframe_holds_all_that_decisions_need() -> None:
    book = running()
    book.mailbox(1, Progress(1, 30, ""))
    book.mailbox(1, MailsFound(1, (mail(1),), cursor(1)))
    state = book.mailbox_state(1)
    assert book.mailboxes.load(M, book.mailboxes.dump(state)) == state


def test_another_mailbox_s_keyframe_is_refused() -> None:
    book = running()
    with pytest.raises(ValueError, match="another"):
        book.mailboxes.load("mailbox/2", book.mailboxes.dump(book.mailbox_state(1)))
