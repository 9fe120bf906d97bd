"""The console of an application that is not at the root of its address, and has no mail."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.support.drivers.browser import Chromium, Tab, profile
from tests.support.drivers.console import built_console
from tests.support.patience import ALL_WITHIN_S, WITHIN_S
from tests.support.servers.inside import inside
from tests.support.servers.reverse_proxies import nginx_below
from tests.support.servers.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SHOP = Path(__file__).resolve().parents[2] / "examples" / "shop"
PAGES = "[...document.querySelectorAll('.top nav a')].map((page) => page.hash.slice(2)).join()"
MOUNTED = """
from fastapi import FastAPI
from huahuo import Huahuo

app = Huahuo(data="data")
api = FastAPI(lifespan=app.lifespan)
api.mount("/live", app.asgi)
around = app.asgi(FastAPI(), path="/live")
"""


@contextlib.contextmanager
def below(how: str, folder: Path) -> Iterator[tuple[str, str]]:
    """The address of a service below a path, and a token for it."""
    (folder / "mounted.py").write_text(MOUNTED)
    if how != "nginx":
        with inside(f"mounted:{how}", folder) as host:
            yield f"{host.url}/live", host.token(42)
        return
    with (
        serving(folder / "data", app="shop:app", folder=SHOP) as server,
        nginx_below("/live/", server.port, folder) as url,
    ):
        yield f"{url}/live", server.token(42, "alice")


async def signed_in(tab: Tab, address: str, token: str) -> str:
    """The console's pages, once it is online and has the user's state."""
    failed: list[str] = []
    tab.page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    await tab.goto(f"{address}#token={token}")
    await tab.until("document.querySelector('[data-state=online]')")
    await tab.until(f"{PAGES}.startsWith('live')")
    assert failed == []
    return str(await tab.run(f"return {PAGES}"))


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("how", ["api", "around", "nginx"])
async def test_it_works_below_a_path_and_has_no_pages_of_mail(
    how: str, slash: str, chromium: Chromium, tmp_path: Path
) -> None:
    built_console()
    with below(how, tmp_path) as (address, token):
        async with profile(chromium) as browser, asyncio.timeout(ALL_WITHIN_S):
            assert await signed_in(await browser.open(), address + slash, token) == "live,programs,account"


def test_a_trusted_proxy_says_which_prefix_it_took_away(tmp_path: Path) -> None:
    built_console()

    def page(url: str, prefix: str) -> str:
        asked = Request(url, headers={"X-Forwarded-Prefix": prefix})
        with urlopen(asked, timeout=WITHIN_S) as answer:
            return str(answer.read(), "utf-8")

    with serving(tmp_path / "data", HUAHUO_TRUSTED_PROXIES="127.0.0.1") as server:
        assert 'src="/live/assets/' in page(server.url, "/live")
        for wrong in ("//evil.example", "/a/../..//b", '/"><script>', "live"):
            assert 'src="./assets/' in page(server.url, wrong), wrong
    with serving(tmp_path / "other") as server:
        assert 'src="./assets/' in page(server.url, "/live"), "nobody is trusted"
