"""Looks at history: a part is told with how to see the rest, and a missing package with its extra."""

import json
import sys
from pathlib import Path

import pytest

from huahuo.errors import ConfigError
from huahuo.eventstore.errors import Damaged
from huahuo.eventstore.model import StoredEvent
from huahuo.mailcheck.plugin.past import sealed_in
from huahuo.replay.history.detached_history import header, line
from huahuo.replay.history.history import ListHistory
from huahuo.timetravel.commands import effects, log, step
from huahuo.timetravel.history_files import export, load_export
from huahuo.timetravel.look import Out
from tests.support.worlds.replaying import tell


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
    await log(HISTORY, out, "group/ops", limit=limit)
    said = capsys.readouterr()
    assert (len(said.out.splitlines()), said.err) == (limit, more)


async def test_what_comes_behind_that_event_is_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    out = Out(as_json=True)
    for after in (None, "@2", "@4"):
        await log(HISTORY, out, "group/ops", after, limit=2)
    assert [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("limit", "more"), [(3, "more: --limit 6\n"), (4, "")])
async def test_effects_that_end_at_their_limit_say_so(
    limit: int, more: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await effects(HISTORY, Out(as_json=True), "@1", limit)
    said = capsys.readouterr()
    assert (len(said.out.splitlines()), said.err) == (1 + limit, more)


def test_step_without_textual_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "textual", None)
    monkeypatch.setitem(sys.modules, "textual.app", None)
    monkeypatch.delitem(sys.modules, "huahuo.timetravel.step", raising=False)
    with pytest.raises(ConfigError, match=r"huahuo\[tui\]"):
        step("mailbox/1", tmp_path)


async def test_parquet_without_pyarrow_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"huahuo\[parquet\]"):
        await export(tell().history, (), 0, 10, "parquet", tmp_path / "x", sealed_in)
    assert list(tmp_path.iterdir()) == [], "nothing half-written is left"


def test_what_is_no_export_is_refused(tmp_path: Path) -> None:
    for number, content in enumerate(
        (b"", b"{}", b"\xff\n", b'{"huahuo_export":9,"log":"x","position":1}\n')
    ):
        (tmp_path / str(number)).write_bytes(content)
        with pytest.raises(ConfigError):
            load_export(tmp_path / str(number))
    for number, bad in enumerate((b"nonsense", b'{"position":1}', b"[]")):
        path = tmp_path / f"damaged-{number}"
        path.write_bytes(header("x", 1) + b"\n" + bad + b"\n")
        with pytest.raises(Damaged) as caught:
            load_export(path)
        assert caught.value.position == 1


def test_an_export_that_was_edited_is_found_out_and_one_of_a_part_cannot_be(tmp_path: Path) -> None:
    events = tell().history.events
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join([header("x", len(events)), *map(line, events)]))
    assert load_export(path, whole=True).events == events
    path.write_bytes(path.read_bytes().replace("正在处理".encode(), "已经处理".encode(), 1))
    with pytest.raises(Damaged) as caught:
        load_export(path, whole=True)
    assert "正在处理".encode() in events[caught.value.position - 1].body
    path.write_bytes(b"\n".join([header("x", len(events)), *map(line, events[3:])]))
    with pytest.raises(ConfigError):
        load_export(path, whole=True)
