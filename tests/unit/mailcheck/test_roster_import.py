"""The import of many mailboxes: in one append, as a job, and its validation by login."""

import asyncio
from collections.abc import Callable

from huahuo.actors.plugins.calls import Refusal, UserId
from huahuo.actors.plugins.plugin import JobDoor, JobOutcome
from huahuo.mailcheck import zh
from huahuo.mailcheck.api.import_export import PER_USER_MAX, SILENT_S
from huahuo.mailcheck.records import ImportResult
from huahuo.mailcheck.roster.decider import ImportEmails
from huahuo.mailcheck.roster.importer import parse
from tests.support.models.mail_book import USER, Book
from tests.support.worlds.mail_world import MailWorld, in_mail_world, mail_world

U = f"user/{USER}"


def do_import(book: Book, text: str, mail_type: str = "imap") -> ImportResult | Refusal:
    reply = book.roster(USER, ImportEmails(mail_type, parse(text, mail_type))).reply
    assert isinstance(reply, ImportResult | Refusal)
    return reply


def test_the_bound_of_mailboxes_holds_line_by_line() -> None:
    book = Book(mailboxes_max=2)
    book.add("old@x.com")
    result = do_import(book, "a@x.com----p\nb@x.com----p\nc@x.com----p")
    assert isinstance(result, ImportResult)
    assert (result.success, [f.line for f in result.failed_details]) == (1, [2, 3])


def test_an_address_of_one_provider_is_no_mailbox_of_another() -> None:
    book = Book()
    text = "a@outlook.com----p\nb@qq.com----p\nc@example.com----p"
    result = do_import(book, text, "qq")
    assert isinstance(result, ImportResult)
    assert [(one.line, one.reason) for one in result.failed_details] == [
        (1, zh.OTHER_TYPE.format("outlook", "outlook"))
    ]
    assert [e["email"] for e in book.said(U)] == ["b@qq.com", "c@example.com"]


class Board:
    """Jobs as the service has them, in a list."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, UserId | None]] = []
        self.said: list[tuple[int, float, str]] = []
        self.ended: dict[int, tuple[JobOutcome, str]] = {}
        self.cancels: dict[int, Callable[[], None]] = {}

    async def begin(self, name: str, user: UserId | None) -> int:
        self.begun.append((name, user))
        job_id = len(self.begun)
        await asyncio.sleep(0)  # others come while it is written
        return job_id

    async def progress(self, job_id: int, percent: float, message: str) -> bool:
        self.said.append((job_id, percent, message))
        return True

    async def end(self, job_id: int, outcome: JobOutcome, message: str = "") -> None:
        self.ended.setdefault(job_id, (outcome, message))

    def watch(self, job_id: int, cancelled: Callable[[], None]) -> Callable[[], None]:
        self.cancels[job_id] = cancelled
        return lambda: self.cancels.pop(job_id, None) and None


def job_world(test: Callable[[MailWorld, Board], object]) -> None:
    board = Board()
    door = JobDoor(board)

    async def main(world: MailWorld) -> None:
        world.jobs = door
        await world.restart()
        await test(world, board)  # type: ignore[misc]

    in_mail_world(main)


def lines(first: int, count: int) -> str:
    return "\n".join(f"m{n}@example.com----canary" for n in range(first, first + count))


def test_a_cancelled_import_takes_no_more_lines() -> None:
    async def test(world: MailWorld, board: Board) -> None:
        await world.do("begin_import", lines=4)
        board.cancels[1]()
        refused = await world.do("import_emails", data=lines(1, 2), mail_type="imap", job_id=1)
        assert refused["code"] == "conflict"
        await world.do("end_import", job_id=1, stopped=True)
        assert board.ended[1][0] == "cancelled"
        assert await world.rows() == {}

    job_world(test)


def test_a_client_that_falls_silent_has_its_job_ended() -> None:
    async def test(world: MailWorld, board: Board) -> None:
        await world.do("begin_import", lines=4)
        await asyncio.sleep(SILENT_S - 1)
        await world.do("import_emails", data=lines(1, 1), mail_type="imap", job_id=1)
        await asyncio.sleep(SILENT_S - 1)
        assert board.ended == {}
        await asyncio.sleep(2)
        assert board.ended[1][0] == "interrupted"
        late = await world.do("import_emails", data=lines(2, 1), mail_type="imap", job_id=1)
        assert late["success"] == 1, "the lines are taken, without a job"

    job_world(test)


def test_a_user_has_few_imports_at_a_time_and_never_anothers() -> None:
    async def test(world: MailWorld, board: Board) -> None:
        for _ in range(PER_USER_MAX):
            assert (await world.do("begin_import", lines=1))["type"] == "success"
        assert (await world.do("begin_import", lines=1))["code"] == "busy"
        assert (await world.do("begin_import", USER + 1, lines=1))["type"] == "success"
        assert (await world.do("end_import", USER + 1, job_id=1))["code"] == "not_found"
        assert board.ended == {}

    job_world(test)


def test_a_user_that_begins_many_imports_in_one_moment_has_few_too() -> None:
    async def test(world: MailWorld, _board: Board) -> None:
        said = await asyncio.gather(*(world.do("begin_import", lines=1) for _ in range(10)))
        assert [one["type"] for one in said].count("success") == PER_USER_MAX
        assert {one.get("code") for one in said[PER_USER_MAX:]} == {"busy"}

    job_world(test)


@mail_world()
async def test_an_import_with_validation_checks_each_new_mailbox_at_once(world: MailWorld) -> None:
    await world.do("import_emails", data=lines(1, 3), mail_type="imap", validate=True)
    for _ in range(3):
        (await world.script.next()).finish()
    await world.mail.idle()
    assert {row["status"] for row in (await world.rows()).values()} == {"ok"}
