"""The log that benchmarks look into is one that today's code would have written."""

from pathlib import Path

from bench.questions.make_log import make
from huahuo.eventstore.sqlite.view import SqliteView
from huahuo.options import known
from huahuo.timetravel.check import examine


async def test_the_made_log_is_what_the_deciders_would_write(tmp_path: Path) -> None:
    async def main() -> list[str]:
        await make(tmp_path / "log", 3_000)
        view = await SqliteView.open(tmp_path / "log")
        try:
            report = await examine(known(), view, view.position, None, None)
            assert report.decided > 500
            return [what for d in report.differences for what in d.what]
        finally:
            await view.close()

    assert (await main()) == []
