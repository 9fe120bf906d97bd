"""A look at history that shows only a part says so, and how to see the rest."""

import json

import pytest

from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.model import StoredEvent
from huahuo.replay.history.history import ListHistory
from huahuo.timetravel import look
from huahuo.timetravel.look import Out


def event(position: int, cause: int = 0) -> StoredEvent:
    body = b'{"type":"opened","timestamp":"now"}'
    return StoredEvent(
        position,
        "group/ops",
        position,
        "opened",
        body,
        1,
        position,
        "",
        "service",
        str(position),
        cause,
        "test",
        b"",
    )


HISTORY = ListHistory([event(1), *(event(position, cause=1) for position in range(2, 6))], "ops")


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(("limit", "more"), [(2, "more: --after @2\n"), (4, "more: --after @4\n"), (5, "")])
async def test_a_log_that_ends_at_its_limit_says_behind_which_event_to_go_on(
    limit: int, more: str, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Out(as_json=as_json)
    await look.log(HISTORY, "group/ops", None, None, FakeAmbient(), out, diff=False, types=(), limit=limit)
    said = capsys.readouterr()
    assert (len(said.out.splitlines()), said.err) == (limit, more)


async def test_what_comes_behind_that_event_is_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    out = Out(as_json=True)
    for after in (None, "@2", "@4"):
        await look.log(HISTORY, "group/ops", after, None, FakeAmbient(), out, diff=False, types=(), limit=2)
    assert [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("limit", "more"), [(3, "more: --limit 6\n"), (4, "")])
async def test_effects_that_end_at_their_limit_say_so(
    limit: int, more: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await look.effects(HISTORY, "@1", Out(as_json=True), limit=limit)
    said = capsys.readouterr()
    assert (len(said.out.splitlines()), said.err) == (1 + limit, more)
