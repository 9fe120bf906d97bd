"""What the service promises on its own port holds inside an ASGI server (uvicorn): the same tests, there.

The suite runs a part of them; with HUAHUO_TESTS_WHOLE=1, as `make check-all` does, all that ask nothing of
the socket itself.
"""

import importlib
import inspect
import os
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.support.worlds.services import run
from tests.support.worlds.wire import OVER_ASGI

PART: Final = ("test_http_events", "test_http_pages", "test_server_session", "test_server_classic")
WHOLE: Final = (*PART, "test_http_calls", "test_server_acks", "test_server_budget", "test_server_delivery",
                "test_server_drain", "test_server_faults", "test_server_flow", "test_server_input")  # fmt: skip


def within(module: str) -> Iterator[Callable[[], object]]:
    found = importlib.import_module(f"tests.e2e.{module}")
    for name, test in inspect.getmembers(found, inspect.isfunction):
        if (
            name.startswith("test_")
            and test.__module__ == found.__name__
            and not inspect.signature(test).parameters
        ):
            yield test


@pytest.mark.parametrize(
    "test",
    [
        test
        for module in (WHOLE if os.environ.get("HUAHUO_TESTS_WHOLE") else PART)
        for test in within(module)
    ],
    ids=lambda test: test.__name__,
)
def test_inside_an_asgi_server(test: Callable[[], object]) -> None:
    token = OVER_ASGI.set(True)
    try:
        made = test()
        if inspect.iscoroutine(made):
            run(made)
    finally:
        OVER_ASGI.reset(token)
