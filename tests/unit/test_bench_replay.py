"""The replay benchmark runs, small, over a log that today's code would have written."""

import asyncio
from pathlib import Path

from bench.make_log import make
from bench.replay import measure
from eventstore.view import SqliteView
from huahuo.replaying.check import examine


def test_it_measures_a_small_log(tmp_path: Path) -> None:
    async def main() -> None:
        events = await make(tmp_path / "log", 5_000)
        found = await measure(tmp_path / "log", seeks=5)
        assert found["events"] == events >= 5_000

    asyncio.run(main())


def test_the_made_log_is_what_the_deciders_would_write(tmp_path: Path) -> None:
    async def main() -> list[str]:
        await make(tmp_path / "log", 3_000)
        view = await SqliteView.open(tmp_path / "log")
        try:
            report = await examine(view, view.position, None, None)
            assert report.decided > 500
            return [what for d in report.differences for what in d.what]
        finally:
            await view.close()

    assert asyncio.run(main()) == []
