"""One Chromium for all browser tests of a run; without it, or without the built client, they are skipped."""

from collections.abc import Iterator

import pytest

from tests.support.drivers.browser import built_client, chromium


@pytest.fixture(scope="session")
def devtools() -> Iterator[str]:
    """The address of a running Chromium, for `profile`."""
    built_client()
    with chromium() as address:
        yield address
