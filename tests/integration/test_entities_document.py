"""The snippets of docs/entities.md run as they stand there."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from huahuo.testing import AppWorld
from tests.support.drivers.snippets import run, snippet

PAGE = "docs/entities.md"


async def test_the_snippets_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUAHUO_PORT", "0")
    names: dict[str, Any] = {"__name__": "shop"}
    first = ("shop", "follower", "own_cursor", "inside")
    for name in (*first, "tests", "effects", "list", "rows", "job", "upcast"):
        await run(snippet(PAGE, name), names)
    assert names["seq"] == 1
    assert names["state"].item == "tea"
    assert [told["item"] for told in names["crm"]] == ["tea"]
    assert names["read_place"]() > 0
    names["database"].dispose()
    assert (names["job"].stream, names["job"].outcome) == ("job/1", "done")


async def test_the_test_of_the_page_passes_in_a_world_of_the_first_application(tmp_path: Path) -> None:
    names: dict[str, Any] = {"__name__": "shop"}
    for name in ("shop", "world"):
        await run(snippet(PAGE, name), names)

    def play() -> None:
        world = AppWorld(names["app"], tmp_path / "data")
        names["test_an_order_survives_a_crash"](world)
        world.close()

    await asyncio.to_thread(play)  # it has a loop of its own
