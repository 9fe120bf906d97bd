"""Without the optional packages the commands that need them say so."""

import sys
from pathlib import Path

import pytest

from huahuo.errors import ConfigError
from huahuo.eventstore.errors import Damaged
from huahuo.mailcheck.plugin.past import sealed_in
from huahuo.replay.history.detached_history import header, line
from huahuo.timetravel.commands import step
from huahuo.timetravel.history_files import export, load_export
from tests.support.worlds.replaying import tell


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
