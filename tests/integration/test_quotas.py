"""A quota for each user: counted over events and contents, refused in words, lifted by an administrator."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from huahuo.transport.client.client import Client
from huahuo.transport.client.model import CommandError
from tests.support.patience import WITHIN_S
from tests.support.worlds.storing import Stored, stored

KIB = 1024


def mailbox(name: str) -> dict[str, Any]:
    return {"email": f"{name}@example.com", "password": "pw", "server": "imap.example.com"}


async def fill(s: Stored, client: Client) -> int:
    """Add mailboxes until that is refused; returns how many there are."""
    for number in range(500):
        try:
            await client.send("add_email", **mailbox(f"m{number}"))
        except CommandError as error:
            refused = error.code, error.retry_s
            break
        if number % 10 == 9:
            assert s.app.storing.quotas is not None
            await s.app.storing.quotas.count()
    assert refused == ("quota_exceeded", None)
    return number


async def test_a_user_at_its_quota_is_refused_and_another_one_is_not(tmp_path: Path) -> None:
    async with stored(tmp_path / "data", user_bytes_max=8 * KIB) as s, s.client(1) as one, s.client(2) as two:
        count = await fill(s, one)
        assert 10 <= count < 100
        await two.send("add_email", **mailbox("other"))
        taken = (await one.send("get_usage"))["data"]
        assert taken["bytes"] >= taken["bytes_max"] == 8 * KIB
        assert taken["events_bytes"] + taken["blobs_bytes"] + taken["index_bytes"] == taken["bytes"]
        assert len((await one.send("get_all_emails"))["data"]) == count


async def test_an_administrator_sees_who_takes_most_and_gives_a_user_another_quota(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"user_bytes_max": 8 * KIB}
    async with (
        stored(tmp_path / "data", **settings) as s,
        s.client(1) as one,
        s.client(9, admin=True) as root,
    ):
        await fill(s, one)
        told = (await root.send("get_storage"))["data"]
        assert told["users"][0]["user_id"] == 1
        assert (told["disk_low"], told["user_bytes_max"]) == (False, 8 * KIB)
        await root.send("set_quota", user_id=1, bytes_max=0)
        await one.send("add_email", **mailbox("one-more"))
        assert (await root.send("get_usage", user_id=1))["data"]["bytes_max"] is None
        with pytest.raises(CommandError, match="forbidden"):
            await one.send("get_usage", user_id=9)
        with pytest.raises(CommandError, match="forbidden"):
            await one.send("set_quota", user_id=1)
    async with stored(tmp_path / "data", **settings) as s, s.client(9, admin=True) as root:
        assert (await root.send("get_usage", user_id=1))["data"]["bytes_max"] is None
        await root.send("set_quota", user_id=1)
        assert (await root.send("get_usage", user_id=1))["data"]["bytes_max"] == 8 * KIB


async def test_who_has_used_up_its_quota_is_still_known_after_a_restart(tmp_path: Path) -> None:
    async with stored(tmp_path / "data", user_bytes_max=8 * KIB) as s, s.client(1) as one:
        await fill(s, one)
        assert s.app.storing.quotas is not None
        before = s.app.storing.quotas.taken(1)
    async with stored(tmp_path / "data", user_bytes_max=8 * KIB) as s, s.client(1) as one:
        assert s.app.storing.quotas is not None
        await s.app.storing.quotas.count()
        assert s.app.storing.quotas.taken(1) == before
        with pytest.raises(CommandError, match="quota_exceeded"):
            await one.send("add_email", **mailbox("one-more"))
        ids = [row["id"] for row in (await one.send("get_all_emails"))["data"]]
        await one.send("delete_emails", email_ids=ids)


async def test_a_user_that_begins_too_many_streams_is_refused_and_its_streams_go_on(tmp_path: Path) -> None:
    async with stored(tmp_path / "data", streams_begun_per_day=20) as s, s.client(2) as other:
        headers = {"Authorization": f"Bearer {s.token(1)}", "Content-Type": "text/plain"}
        async with httpx.AsyncClient(base_url=s.app.url, headers=headers, timeout=WITHIN_S) as http:
            answers = [await http.put(f"/ds/user/1/{number}", content="a") for number in range(30)]
            codes = [answer.status_code for answer in answers]
            made = codes.count(201)
            assert codes == [201] * made + [429] * (30 - made)
            assert 5 <= made <= 20
            assert int(answers[-1].headers["retry-after"]) > 0
            assert (await http.get("/ds/user/1/0")).text == "a"
        await other.send("add_email", **mailbox("other"))
