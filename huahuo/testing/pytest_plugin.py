"""The pytest plug-in: the fixture `app`, a service in virtual time. Define `application` to say which.

@pytest.fixture
def application() -> Huahuo:
return shop.app
"""

from collections.abc import Iterator
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from huahuo.embedding.huahuo import Huahuo
    from huahuo.testing.world import AppWorld


@pytest.fixture
def application() -> "Huahuo":
    """The application that `app` runs. Define your own fixture of this name."""
    pytest.fail("define a fixture `application` that returns your Huahuo(…)", pytrace=False)


@pytest.fixture
def app(application: "Huahuo", tmp_path: Path, request: pytest.FixtureRequest) -> Iterator["AppWorld"]:
    """The application's service, on a log in memory and in virtual time."""
    from huahuo.testing.world import AppWorld

    must_block(request.function)
    must_be_an_application(application)
    world = AppWorld(application, tmp_path / "data")
    yield world
    world.close()


def must_block(test: object) -> None:
    """Fail a test that is a coroutine: the fixture has a loop of its own, whose time stands still."""
    if iscoroutinefunction(test):
        name = getattr(test, "__name__", "the test")
        pytest.fail(f"calls of the fixture `app` block: write def {name}(app), without async", pytrace=False)


def must_be_an_application(given: object) -> None:
    """Fail the test if its fixture `application` returned something else."""
    from huahuo.app.application import Application

    if not isinstance(given, Application):
        hint = "its return is missing" if given is None else f"{given!r:.60} is none"
        pytest.fail(f"the fixture `application` returns your Huahuo(…): {hint}", pytrace=False)
