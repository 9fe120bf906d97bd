"""The job runner of `examples/jobs`, served by `huahuo serve --app jobs:app`, in a real browser."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.drivers.browser import Chromium, Tab, pages, profile
from tests.support.patience import ALL_WITHIN_S
from tests.support.servers.serving import Serving, serving

JOBS = Path(__file__).resolve().parents[2] / "examples" / "jobs"

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@asynccontextmanager
async def opened(chromium: Chromium, tmp_path: Path) -> AsyncIterator[tuple[Serving, Tab]]:
    """The service of the example, and its page as alice sees it."""
    async with profile(chromium) as browser, asyncio.timeout(ALL_WITHIN_S):
        with serving(tmp_path / "data", app="jobs:app", folder=JOBS) as server:
            folder = tmp_path / "pages"
            folder.mkdir()
            page = (JOBS / "jobs.html").read_text(encoding="utf-8")
            page = page.replace("http://127.0.0.1:8765", server.url)
            (folder / "jobs.html").write_text(page, encoding="utf-8")
            async with pages(folder) as site:
                yield server, await browser.open(f"{site}/jobs.html#{server.token(1, 'alice')}")


async def start(tab: Tab, files: int) -> None:
    await tab.until("!document.querySelector('#start').disabled")
    await tab.fill("#files", str(files))
    await tab.press("Enter")


async def shows(tab: Tab, job_id: int, status: str) -> None:
    """Wait until the line of this job has this status."""
    text = f"document.querySelector('#job-{job_id} span')?.textContent"
    await tab.until(f"{text}?.startsWith('import: {status}')")


async def percent(tab: Tab, job_id: int, above: float) -> float:
    """The bar of this job, once it is above a value."""
    bar = f"document.querySelector('#job-{job_id} progress')"
    await tab.until(f"{bar}?.value > {above}")
    found: float = await tab.run(f"return {bar}.value")
    return found


async def test_a_job_moves_its_bar_over_a_reload_and_its_user_cancels_it(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with opened(chromium, tmp_path) as (_, tab):
        await start(tab, 1_000)
        seen = await percent(tab, 1, 0)
        await tab.reload()
        assert await percent(tab, 1, seen) > seen
        await tab.click("#job-1 button")
        await shows(tab, 1, "cancelled")
        assert await tab.run("return document.querySelector('#job-1 button').disabled")
        await start(tab, 2)
        await shows(tab, 2, "done, 2 of 2 files")


async def test_a_killed_service_ends_its_jobs_as_interrupted_once_and_the_page_goes_on(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with opened(chromium, tmp_path) as (server, tab):
        await start(tab, 1_000)
        await percent(tab, 1, 0)
        server.kill()
        server.start()
        await shows(tab, 1, "interrupted")
        await start(tab, 2)
        await shows(tab, 2, "done")
        assert await tab.run("return document.querySelectorAll('#list li').length") == 2
        await tab.reload()
        await shows(tab, 1, "interrupted")
        await shows(tab, 2, "done")
