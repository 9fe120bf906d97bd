"""A client's ack that was changed on the disk: nobody is told that it has processed what it never got."""

from pathlib import Path

import pytest

from huahuo import Huahuo, Refused
from tests.support.drivers.http import client
from tests.support.worlds.sqlite_logs import sql
from tests.support.worlds.wire import until

STREAM = "user/42"


async def test_a_changed_ack_is_corrupt_for_those_who_ask_about_it_and_an_alarm(tmp_path: Path) -> None:
    async with Huahuo(plugins=[], data=tmp_path, port=0) as app:
        await app.publish_many([(STREAM, "said", {"n": n}) for n in range(5)])
        async with client(app.url, app.token(42)) as c:
            for name in ("one", "two"):
                await c.post("/acks", json={"cursors": {STREAM: 1}, "client": name})
            await until(lambda: len(sql(tmp_path, "SELECT 1 FROM ack")) == 2)
            sql(tmp_path, "UPDATE ack SET seq = 5 WHERE client = 'one'")
            changed = await c.get("/seen", params={"stream": STREAM, "seq": 5, "client": "one"})
            assert (changed.status_code, changed.json()["code"]) == (500, "corrupt")
            with pytest.raises(Refused, match="damaged"):
                await app.seen(STREAM, 5, client="one", timeout_s=1)
            other = await c.get("/seen", params={"stream": STREAM, "seq": 5, "client": "two"})
            assert other.json()["seen"] is False
            ready = await c.get("/readyz")
            assert ready.status_code == 503
            assert "ack user/42 one user/42" in ready.text
