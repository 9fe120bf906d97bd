"""The code of the pages for those who come from Socket.IO and Django Channels runs as it stands."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.drivers import http
from tests.support.drivers.snippets import run, snippet
from tests.support.servers.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def test_what_the_pages_publish_is_in_the_user_s_stream(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        token = server.token(1, "root", admin=True)
        emitting: dict[str, Any] = {"url": server.url, "token": token}
        await run(snippet("docs/migrating-from-socketio.md", "both"), emitting)
        emitting["tell"](42, "parcel_seen", {"order_id": 7})
        buying: dict[str, Any] = {"url": server.url, "token": token}
        await run(snippet("docs/migrating-from-channels.md", "orders"), buying)
        buying["paid"](8, 42)
        async with http.client(server.url, server.token(42, "alice")) as alice:
            events = (await alice.get("/streams/user/42?after=0")).json()["events"]
    assert [(event["type"], event["order_id"]) for event in events] == [("parcel_seen", 7), ("order_paid", 8)]
