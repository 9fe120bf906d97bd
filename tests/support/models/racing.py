"""Whatever users, checks and applications do, drawn by chance; and a book in which decisions race."""

from typing import Any

import msgspec
from hypothesis import strategies as st

from huahuo.actors.entities.decider import Decision
from huahuo.eventstore.errors import Conflict
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.mailbox.decider import (
    Begin,
    Finish,
    MailboxCommand,
    MailsFound,
    Progress,
    ReportProgress,
    ReportStatus,
)
from huahuo.mailcheck.records import encode
from huahuo.mailcheck.roster.decider import (
    AddEmail,
    CancelCheck,
    CheckEmails,
    DeleteEmails,
    ImportEmails,
    RosterCommand,
    UpdateEmail,
)
from huahuo.mailcheck.roster.importer import parse
from tests.support.models.mail_book import Book, cursor, mail

USERS = (7, 8)
ids = st.integers(1, 3)
id_lists = st.lists(ids, min_size=1, max_size=4).map(tuple)
OPEN = 0
check_ids = st.sampled_from([OPEN, OPEN, OPEN, OPEN, 1, 2, 3])
"""`OPEN` stands for the check that the mailbox has open when the step comes; others are late."""
addresses = st.sampled_from(["a@x.com", "A@X.com", "b@x.com", "c@y.org"])
secrets = st.fixed_dictionaries(
    {"password": st.just(Secret("canary-password"))},
    optional={
        "refresh_token": st.just(Secret("canary-token")),
        "client_id": st.just(Secret("canary-client")),
    },
)
mail_types = st.sampled_from(["imap", "outlook"])
servers = st.sampled_from(["", "imap.x.com", "imap.y.org"])
texts = st.sampled_from(
    ["a@x.com----canary-line\nb@x.com----canary-line", "canary-line\n\nd@z.net----canary-line"]
)

roster_commands: st.SearchStrategy[RosterCommand] = st.one_of(
    st.builds(AddEmail, email=addresses, mail_type=mail_types, server=servers, secrets=secrets),
    st.builds(UpdateEmail, email_id=ids, server=servers, port=st.sampled_from([None, 143]), secrets=secrets),
    st.builds(DeleteEmails, id_lists),
    st.builds(CheckEmails, st.just((1, 2, 3))),
    st.builds(CheckEmails, id_lists),
    st.builds(CancelCheck, id_lists),
    st.builds(lambda text: ImportEmails("imap", parse(text, "imap")), texts),
)  # fmt: skip


@st.composite
def found(draw: st.DrawFn) -> MailsFound:
    validity = draw(st.sampled_from([1, 1, 1, 2]))
    last = draw(st.integers(0, 5))
    uids = draw(st.lists(st.integers(1, 6), max_size=4))
    batch = tuple(mail(uid, "Your code", uidvalidity=validity) for uid in uids)
    return MailsFound(draw(check_ids), batch, cursor(last, validity))


percents = st.integers(-5, 120)
mailbox_commands: st.SearchStrategy[MailboxCommand] = st.one_of(
    st.builds(Begin, check_ids),
    st.builds(Begin, check_ids),
    st.builds(Progress, check_ids, percents, st.just("…")),
    found(),
    found(),
    st.builds(Finish, check_ids, st.sampled_from(["ok", "error", "need_reauth"]), st.just("")),
    st.builds(ReportStatus, st.sampled_from(["queued", "processing", "ok", "cancelled"]), st.just("app")),
    st.builds(ReportProgress, percents, st.just("app")),
)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("roster"), st.sampled_from(USERS), roster_commands),
        st.tuples(st.just("mailbox"), ids, mailbox_commands),
    ),
    min_size=10,
    max_size=40,
)


class Racing:
    """Runs steps on a book; a step may be decided before the one in front of it is written."""

    def __init__(self) -> None:
        self.book = Book()
        self.conflicts = 0
        self.answers: list[bytes] = []
        first = AddEmail(
            email="first@x.com", mail_type="imap", secrets={"password": Secret("canary-password")}
        )
        for user in USERS:
            self.step(("roster", user, first))
        self.step(("roster", 7, CheckEmails((1,))))
        self.step(("mailbox", 1, Begin(1)))

    def decide(self, step: tuple[str, int, Any]) -> tuple[Decision[Any, Any], dict[str, int]]:
        kind, number, command = step
        book = self.book
        if kind == "roster":
            return book.rosters.decide(book.roster_state(number), command, book.context()), {}
        stream = f"mailbox/{number}"
        check = book.mailbox_state(number).check
        if getattr(command, "check_id", None) == OPEN and check is not None:
            command = msgspec.structs.replace(command, check_id=check.check_id)
        decision = book.mailboxes.decide(book.mailbox_state(number), command, book.context())
        return decision, {stream: book.heads.get(stream, 0)} if decision.events else {}

    def step(
        self, step: tuple[str, int, Any], early: tuple[Decision[Any, Any], dict[str, int]] | None = None
    ) -> None:
        decision, expected = early or self.decide(step)
        try:
            self.book.write(decision, expected)
        except Conflict:
            self.conflicts += 1
            decision, expected = self.decide(step)
            self.book.write(decision, expected)
        if step[0] == "roster":
            self.answers.append(encode(decision.reply))

    def run(self, steps_: list[tuple[str, int, Any]], races_: list[bool]) -> Book:
        waiting: tuple[Any, Any] | None = None
        for n, step in enumerate(steps_):
            # One roster does not race with itself: an entity decides one command at a time.
            late = n < len(races_) and races_[n] and waiting is None
            if late:
                waiting = (step, self.decide(step))
                continue
            same = waiting is not None and waiting[0][:2] == step[:2]
            if waiting is not None and same:
                self.step(*waiting)
                waiting = None
            self.step(step)
            if waiting is not None:
                self.step(*waiting)
                waiting = None
        if waiting is not None:
            self.step(*waiting)
        return self.book
