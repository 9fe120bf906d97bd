"""A data directory with open checks, from before checks were effects of the public layer.

`tests/support/data/open-checks.tar.gz` was written by that version: user 42 asked for checks of ten mailboxes
on 127.0.0.1, port 1. Eight of them ran and two waited when the service was stopped.
"""

import asyncio
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from huahuo.transport.client.client import Client
from tests.support.patience import WITHIN_S
from tests.support.servers.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ARCHIVE = Path(__file__).resolve().parents[1] / "support" / "data" / "open-checks.tar.gz"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    data = tmp_path / "data"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(data, filter="data")
    data.chmod(0o700)
    with serving(data) as running:
        yield running


async def followed(server: Serving, ends: int) -> list[dict[str, Any]]:
    """What the user is told up to this many ends of checks."""
    told: list[dict[str, Any]] = []
    async with (
        asyncio.timeout(WITHIN_S),
        Client(server.url, token=server.token(42, "alice")) as client,
        client.events("user/42", after="start") as events,
    ):
        async for event in events:
            told.append({"type": event.type, **event.data})
            ends -= told[-1].get("status") == "error"
            if not ends:
                break
    return told


def test_its_open_checks_go_on_and_each_ends_once(server: Serving) -> None:
    told = asyncio.run(followed(server, ends=10))
    statuses: dict[int, list[str]] = {}
    for event in told:
        if event["type"] == "email_status_update":
            statuses.setdefault(event["check_id"], []).append(event["status"])
    assert statuses == {id_: ["queued", "processing", "error"] for id_ in range(1, 11)}
