"""Pages read while mailboxes come, go and change: what a client makes of them is what the server has."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from huahuo.eventstore.model import StoredEvent
from huahuo.mailcheck.api import mailbox_list
from huahuo.mailcheck.records import Row
from huahuo.mailcheck.roster.state import Roster, RosterFold

USER = "user/7"
FOLD = RosterFold()
STATUSES = ("idle", "processing", "ok", "error")

edits = st.one_of(
    st.tuples(st.just("add"), st.text("abAB", min_size=1, max_size=2), st.just("")),
    st.tuples(st.just("delete"), st.integers(0, 99), st.just("")),
    st.tuples(st.just("status"), st.integers(0, 99), st.sampled_from(STATUSES)),
    st.tuples(st.just("mail"), st.integers(0, 99), st.just("")),
)
some_edits = st.lists(edits, max_size=6)


class World:
    """A roster, the events that made it, and the ids that were given."""

    def __init__(self) -> None:
        self.state = FOLD.initial(USER)
        self.events: list[StoredEvent] = []
        self.ids = 0

    def edit(self, what: str, subject: Any, status: str) -> None:
        if what == "add":
            self.ids += 1
            self._say("email_added", email_id=self.ids, email=f"{subject}{self.ids}@x.com", mail_type="imap",
                      server="s", port=1, use_ssl=True)  # fmt: skip
        elif self.state.rows:
            ids = list(self.state.rows)
            number = ids[subject % len(ids)]
            if what == "delete":
                self._say("email_deleted", email_id=number)
            elif what == "status":
                self._say("email_status_update", email_id=number, status=status, message="", check_id=1)
            else:
                self._say(
                    "mail_received", email_id=number, mail_id=1, subject="", sender="", received_time="",
                    folder="INBOX", has_attachments=False,
                )  # fmt: skip

    def _say(self, kind: str, **fields: Any) -> None:
        seq = len(self.events) + 1
        body = {"type": kind, **fields, "timestamp": f"2026-01-01T00:00:00.{seq:03}Z"}
        event = StoredEvent(seq, USER, seq, kind, msgspec.json.encode(body), 1, 0, "", "", "", 0, "", b"")
        self.events.append(event)
        FOLD.evolve(self.state, event)

    @property
    def seq(self) -> int:
        return len(self.events)


def ready(state: Roster, field: str) -> mailbox_list.Order:
    order = mailbox_list.order_of(state, field)
    while not order.ready:
        order.put_right() if order.made else order.take(order.sort())
    return order


class Reader:
    """What `docs/protocol.md` tells a client to do with pages by id and the events that it gets."""

    def __init__(self) -> None:
        self.state = FOLD.initial(USER)
        self.heard: list[StoredEvent] = []
        self.holds: dict[int, int] = {}
        """As after which event each row is."""

    def events(self, events: list[StoredEvent]) -> None:
        self.heard += events
        for event in events:
            self._apply(event)

    def page(self, rows: list[Row], seq: int) -> None:
        for row in rows:
            self.state.rows[row.id] = row
            self.holds[row.id] = seq
        ids = {row.id for row in rows}
        for event in self.heard:
            if _subject(event) in ids:
                self._apply(event)

    def _apply(self, event: StoredEvent) -> None:
        if event.seq > self.holds.get(_subject(event), 0):
            FOLD.evolve(self.state, event)
            self.holds[_subject(event)] = event.seq


def _subject(event: StoredEvent) -> int:
    number: int = msgspec.json.decode(event.body)["email_id"]
    return number


@given(
    st.lists(edits, max_size=30),
    st.lists(st.tuples(some_edits, some_edits, st.integers(-6, 6)), min_size=25, max_size=25),
    st.integers(1, 4),
    st.booleans(),
)
def test_pages_by_id_and_the_events_between_are_the_final_state(
    before: list[Any], between: list[Any], limit: int, descending: bool
) -> None:
    world, reader = World(), Reader()
    for edit in before:
        world.edit(*edit)
    told = world.seq  # it follows the stream from before the first page on
    after = None
    for edits_now, edits_on_the_way, lateness in between:
        for edit in edits_now:
            world.edit(*edit)
        page = ready(world.state, "id").page(
            world.state.rows, limit=limit, after=after, descending=descending
        )
        seq = world.seq
        for edit in edits_on_the_way:
            world.edit(*edit)
        # The page and the events cross: it may come before events up to its seq, or behind later ones.
        until = max(told, min(world.seq, seq + lateness))
        reader.events(world.events[told:until])
        told = until
        reader.page(page.rows, seq)
        after = page.after
        if after is None:
            break
    else:
        return  # it grew faster than it was read
    reader.events(world.events[told:])
    assert reader.state.rows == world.state.rows


@given(
    st.lists(edits, max_size=60),
    st.lists(some_edits, max_size=8),
    st.sampled_from(sorted(mailbox_list.KEYS)),
    st.booleans(),
    st.integers(1, 20),
    st.sampled_from([None, "ok", ("ok", "idle")]),
)
def test_an_order_that_is_kept_up_to_date_is_the_order(
    before: list[Any], between: list[Any], field: str, descending: bool, limit: int, status: Any
) -> None:
    world = World()
    for edit in before:
        world.edit(*edit)
    order = mailbox_list.order_of(world.state, field)  # what changes before it is sorted counts too
    sort = mailbox_list.Sort(field, descending)
    admits = mailbox_list.Filter(status=status).admits()
    after = None
    for some in [[], *between]:
        for edit in some:
            world.edit(*edit)
        assert ready(world.state, field) is order
        page = order.page(world.state.rows, limit=limit, after=after, descending=descending, admits=admits)
        key = mailbox_list.KEYS[field]
        rows = sorted(world.state.rows.values(), key=lambda r: (key(r), r.id), reverse=descending)
        if after is not None:
            beyond = after
            rows = [
                r for r in rows
                if ((key(r), r.id) < beyond if descending else (key(r), r.id) > beyond)
            ]  # fmt: skip
        assert page.rows == [r for r in rows if admits is None or admits(r)][:limit]
        if page.after is not None:
            assert mailbox_list.entry_of(sort, mailbox_list.token_of(sort, page.after)) == page.after
        after = page.after


def test_many_changes_at_once_are_put_right_too() -> None:
    world = World()
    for _ in range(6_000):
        world.edit("add", "a", "")
    order = ready(world.state, "mail_count")
    for number in range(0, 6_000, 2):
        world.edit("mail", number, "")
    world.edit("delete", 3, "")
    world.edit("add", "b", "")
    assert not order.ready
    assert ready(world.state, "mail_count") is order
    page = order.page(world.state.rows, limit=9_000)
    assert [(r.mail_count, r.id) for r in page.rows] == sorted(
        (r.mail_count, r.id) for r in world.state.rows.values()
    )


def test_a_page_examines_a_bounded_number_of_rows_and_says_where_to_continue() -> None:
    rows = {
        n: Row(n, 7, f"{n}@x.com", "imap", "s", 1, True, "") for n in range(mailbox_list.EXAMINED_MAX + 5)
    }
    order = mailbox_list.Order("id", tuple(rows.values()))
    order.take(order.sort())
    admits = mailbox_list.Filter(text=f"{mailbox_list.EXAMINED_MAX + 1}@").admits()
    first = order.page(rows, limit=10, admits=admits)
    assert (first.rows, first.after) == ([], (mailbox_list.EXAMINED_MAX - 1, mailbox_list.EXAMINED_MAX - 1))
    second = order.page(rows, limit=10, after=first.after, admits=admits)
    assert [row.id for row in second.rows] == [mailbox_list.EXAMINED_MAX + 1]
    assert second.after is None
