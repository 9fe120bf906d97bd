"""The rules of `huahuo doctor --check`: good logs pass, logs that were spoiled by hand are refused."""

import asyncio
import base64
from collections.abc import Callable, Sequence

import msgspec
import pytest
from msgspec.structs import replace

from huahuo.app.application import with_mail
from huahuo.cli.doctor_log import check_rules, invariant_rules
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.core.chain import GENESIS, relink
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.memory import MemoryLog, ModelDisk
from huahuo.eventstore.model import Ack, Append, NewEvent, StoredEvent, Tombstone
from huahuo.eventstore.verdict import Ends, Rule, Verdict, judge
from huahuo.invariants import (
    AcksWithinStreams,
    ChainHolds,
    EffectsEndOnce,
    KeysNotWritten,
    NumbersFollow,
    TimersFireOnce,
)
from huahuo.mailcheck.events import ChecksEndOnce, MailsToldOnce

type Line = tuple[str, str, dict[str, object]]

LINES: list[Line] = [
    ("effect/order/1", "effect_requested", {"id": 1, "effect": "Pack"}),
    ("effect/order/1", "effect_claimed", {"id": 1}),
    ("effect/order/1", "effect_ended", {"id": 1, "outcome": "done"}),
    ("effect/order/1", "effect_requested", {"id": 2, "effect": "Pack"}),
    ("timer/order/1", "timer_set", {"name": "expire", "due_ms": 10}),
    ("timer/order/1", "timer_fired", {"name": "expire", "due_ms": 10, "next_ms": 20}),
    ("timer/order/1", "timer_fired", {"name": "expire", "due_ms": 20}),
    ("timer/order/1", "timer_set", {"name": "other", "due_ms": 30}),
    ("timer/order/1", "timers_cancelled", {"names": ["other"]}),
    ("user/1", "email_status_update", {"status": "queued", "check_id": 5}),
    ("user/1", "check_progress", {"progress": 40, "check_id": 5}),
    ("user/1", "mail_received", {"mail_id": 3}),
    ("mailbox/1", "cursor_moved", {"folder": "INBOX", "uidvalidity": 1, "mails": [{"uid": 7}]}),
    ("user/1", "check_progress", {"progress": 100, "check_id": 5}),
    ("user/1", "email_status_update", {"status": "ok", "check_id": 5}),
    ("user/1", "email_status_update", {"status": "error", "check_id": 0}),
]


def log_of(lines: Sequence[Line]) -> list[StoredEvent]:
    """A log with these events."""
    events: list[StoredEvent] = []
    seqs: dict[str, int] = {}
    chain = GENESIS
    for position, (stream, name, fields) in enumerate(lines, 1):
        seqs[stream] = seqs.get(stream, 0) + 1
        body = msgspec.json.encode({"type": name, **fields})
        event = StoredEvent(position, stream, seqs[stream], name, body, 1, 0, stream, "", "", 0, "test", b"")
        chain = relink(chain, event)
        events.append(replace(event, chain=chain))
    return events


def said(rule: Rule, log: Sequence[StoredEvent | Tombstone], ends: Ends | None = None) -> Verdict:
    [verdict] = judge([rule], log, Ends() if ends is None else ends)
    return verdict


def with_line(*more: Line) -> list[StoredEvent]:
    return log_of([*LINES, *more])


KEY = b"a-key-of-the-service-0123456789abcdef"


def keys_not_written() -> Rule:
    return KeysNotWritten({"token key": KEY})


RULES: list[Callable[[], Rule]] = [
    NumbersFollow, ChainHolds, AcksWithinStreams,
    EffectsEndOnce, TimersFireOnce, ChecksEndOnce, MailsToldOnce, keys_not_written,
]  # fmt: skip
ENDS = Ends({"user/1": 6, "timer/order/1": 5}, [Ack("user/1", "a", "user/1", 6)])

BAD: list[tuple[Callable[[], Rule], Line]] = [
    (EffectsEndOnce, ("effect/order/1", "effect_requested", {"id": 1})),
    (EffectsEndOnce, ("effect/order/1", "effect_ended", {"id": 1})),
    (EffectsEndOnce, ("effect/order/1", "effect_claimed", {"id": 1})),
    (EffectsEndOnce, ("effect/order/1", "effect_claimed", {"id": 9})),
    (TimersFireOnce, ("timer/order/1", "timer_fired", {"name": "expire", "due_ms": 20})),
    (TimersFireOnce, ("timer/order/1", "timer_fired", {"name": "other", "due_ms": 30})),
    (ChecksEndOnce, ("user/1", "check_progress", {"progress": 100, "check_id": 5})),
    (ChecksEndOnce, ("user/1", "email_status_update", {"status": "ok", "check_id": 5})),
    (MailsToldOnce, ("user/1", "mail_received", {"mail_id": 3})),
    (MailsToldOnce, LINES[12]),
]


@pytest.mark.parametrize(("rule", "line"), BAD)
def test_an_event_too_many_is_found(rule: Callable[[], Rule], line: Line) -> None:
    assert said(rule(), with_line(line)).holds is False


@pytest.mark.parametrize(
    "form", [KEY.decode(), KEY.hex(), *(base64.b64encode(b"?" * n + KEY + b"!").decode() for n in range(3))]
)
def test_a_key_of_the_service_in_an_event_is_found_and_not_repeated(form: str) -> None:
    verdict = said(keys_not_written(), with_line(("user/1", "note", {"text": f"see {form}."})))
    assert verdict.holds is False
    assert verdict.text == f"the event at position {len(LINES) + 1} holds the token key"


def test_progress_that_goes_back_is_found() -> None:
    back: Line = ("user/1", "check_progress", {"progress": 30, "check_id": 5})
    lines = [*LINES[:11], back]
    assert said(ChecksEndOnce(), log_of(lines)).holds is False


def test_a_timer_that_fires_for_another_time_is_found() -> None:
    early: Line = ("timer/order/1", "timer_fired", {"name": "expire", "due_ms": 11})
    lines = [*LINES[:5], early]
    assert said(TimersFireOnce(), log_of(lines)).holds is False


def test_another_server_has_uids_of_its_own() -> None:
    log = with_line(("mailbox/1", "mailbox_updated", {}), LINES[12])
    assert said(MailsToldOnce(), log).holds is True


def test_a_changed_event_breaks_the_chain() -> None:
    log = log_of(LINES)
    log[3] = replace(log[3], body=b"{}")
    assert said(ChainHolds(), log).holds is False


def test_a_lost_event_leaves_a_gap() -> None:
    log = log_of(LINES)
    assert said(NumbersFollow(), [*log[:3], *log[4:]]).holds is False
    assert said(NumbersFollow(), log[:-1], ENDS).holds is False, "the head says that there is one more"


def test_an_ack_beyond_its_stream_is_found() -> None:
    assert said(AcksWithinStreams(), log_of(LINES), Ends({}, [Ack("u", "a", "user/1", 7)])).holds is False


def test_pruned_events_are_no_gap_and_their_work_is_not_missed() -> None:
    log: list[StoredEvent | Tombstone] = [*log_of(LINES)]
    for place in (0, 4):
        one = log[place]
        log[place] = Tombstone(one.position, one.stream, one.seq, one.chain)
    for rule in RULES:
        assert said(rule(), log, ENDS).holds is True


def test_the_walk_asks_the_rules_of_plugins_too() -> None:
    async def walked() -> list[Verdict]:
        log = await MemoryLog.open(
            ModelDisk(), ambient=FakeAmbient(), master_key=bytes(32), build="test", executor=InlineExecutor()
        )
        events = [
            NewEvent(stream, name, msgspec.json.encode({"type": name, **f})) for stream, name, f in LINES
        ]
        await log.append(Append(ts_ms=1, events=tuple(events)))
        try:
            return await check_rules(log, invariant_rules(with_mail()))
        finally:
            await log.close()

    verdicts = asyncio.run(walked())
    assert [one.invariant for one in verdicts] == ["I3", "I4", "I9", "I26", "I26", "I20", "I22"]
    assert [one.holds for one in verdicts] == [True, True, None, True, True, True, True]
