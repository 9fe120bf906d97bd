"""Without Chromium, or without the built client, all browser tests are skipped."""

from collections.abc import AsyncIterator

import pytest

from tests.support.drivers.browser import Chromium, built_client, running_chromium


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
