"""What several tests of this room begin with."""

from collections.abc import AsyncIterator

import pytest

from tests.support.worlds.hooks import HookWorld, hook_world


@pytest.fixture
async def w() -> AsyncIterator[HookWorld]:
    """A service with webhooks, in virtual time."""
    async with hook_world() as world:
        yield world
