"""Every browser test needs Chromium and the built client."""

import pytest

from tests.support.browser import built_client, find_chromium


@pytest.fixture(autouse=True)
def _browser() -> None:
    find_chromium()
    built_client()
