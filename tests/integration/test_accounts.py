"""Accounts that people make themselves: the first administrator's link, and registration by a setting."""

from pathlib import Path

import pytest

from huahuo.errors import ConfigError
from tests.support.worlds.firemail import service

ACCOUNT = {"username": "alice", "password": "a good password"}


async def test_the_link_of_an_empty_directory_makes_the_first_administrator_once(tmp_path: Path) -> None:
    async with service(tmp_path / "d") as running, running.http() as c:
        link = running.app.first_link()
        assert link is not None
        page, _, code = link.partition("#")
        shown = await c.get(page)
        assert (shown.status_code, code in shown.text) == (200, False)
        guessed = await c.post("/accounts", json={**ACCOUNT, "code": code[:-1] + "x"})
        for wrong in ("é" * 48, code[:-1]):
            assert (await c.post("/accounts", json={**ACCOUNT, "code": wrong})).status_code == 403
        assert (guessed.status_code, guessed.json()["code"]) == (403, "forbidden")
        short = await c.post("/accounts", json={**ACCOUNT, "password": "short", "code": code})
        assert short.status_code == 400
        made = await c.post("/accounts", json={**ACCOUNT, "code": code})
        assert (made.status_code, made.json()["user"]["is_admin"]) == (201, True)
        again = await c.post(
            "/accounts", json={"username": "bob", "password": "a good password", "code": code}
        )
        assert again.status_code == 403
        assert running.app.first_link() is None
        assert (await c.post("/login", json=ACCOUNT)).json()["user"]["username"] == "alice"
    async with service(tmp_path / "d") as running:
        assert running.app.first_link() is None


@pytest.mark.parametrize(
    ("language", "detail"), [("en", "registration is switched off"), ("zh", "注册功能已禁用")]
)
async def test_registration_is_off_by_default_and_says_so_in_the_language_of_the_client(
    tmp_path: Path, language: str, detail: str
) -> None:
    async with service(tmp_path / "d") as running, running.http() as c:
        refused = await c.post("/accounts", json=ACCOUNT, headers={"Accept-Language": language})
        assert (refused.status_code, refused.json()["detail"]) == (403, detail)


async def test_with_the_setting_anybody_makes_an_account_without_rights_and_not_in_masses(
    tmp_path: Path,
) -> None:
    async with service(tmp_path / "d", registration=True) as running, running.http() as c:
        made = await c.post("/accounts", json=ACCOUNT)
        assert (made.status_code, made.json()["user"]["is_admin"]) == (201, False)
        taken = await c.post("/accounts", json={**ACCOUNT, "username": "ALICE"})
        assert (taken.status_code, taken.json()["code"]) == (409, "already_exists")
        for _ in range(8):
            await c.post("/accounts", json={**ACCOUNT, "password": "short"})
        refused = await c.post("/accounts", json={"username": "carol", "password": "a good password"})
        assert refused.status_code == 429
        assert refused.headers["retry-after"]


async def test_a_folder_without_a_page_ends_the_start_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no index\.html"):
        async with service(tmp_path / "d", classic_ui=str(tmp_path)):
            pass
