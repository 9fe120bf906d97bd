"""Without Chromium, or without the built client, all browser tests are skipped."""

import pytest

from tests.support.drivers.browser import built_client, find_chromium


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium, for `profile`."""
    built_client()
    return find_chromium()
