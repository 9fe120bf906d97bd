"""Without Chromium, or without the built client, all browser tests are skipped."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.drivers.browser import Chromium, built_client, running_chromium
from tests.support.drivers.console import Console, console


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """The tests of a file share a loop, because on it runs what drives their Chromium."""
    return "asyncio"


@pytest.fixture(scope="module")
async def chromium(anyio_backend: str) -> AsyncIterator[Chromium]:
    """A running Chromium, for `profile`."""
    built_client()
    async with running_chromium() as started:
        yield started


@pytest.fixture
async def on(chromium: Chromium, tmp_path: Path) -> AsyncIterator[Console]:
    """A console of a service and a mail server of its own."""
    async with console(chromium, tmp_path, within_s=None) as made:
        yield made
