"""The console in a real browser, over the real service and a real mail server.

async with console(chromium, tmp_path) as on:
    tab = await on.sign_in()                         # by the link, as `make demo` prints it
    await on.add("alice@example.org", mails=[...])   # a mailbox of user 42 and what is in it
    await tab.click(on.button("Check all"))
    assert await on.rows(tab) == ...                 # what the table shows
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from huahuo.transport.client.client import Client
from tests.support.drivers.browser import ROOT, Browser, Chromium, Tab, missing, profile
from tests.support.patience import ALL_WITHIN_S
from tests.support.servers.dovecot import PASSWORD, Dovecot, dovecot
from tests.support.servers.serving import Serving, serving

BUILT_CONSOLE = ROOT / "huahuo" / "pages" / "static" / "index.html"
USER_ID = 42

_WATCH = """
addEventListener("securitypolicyviolation", (event) =>
  (window.violations ??= []).push(`${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}`));
"""
_STORED = """(async () => {
  const [{ name }] = await indexedDB.databases();
  const opened = await new Promise((done) => {
    const request = indexedDB.open(name);
    request.onsuccess = () => done(request.result);
  });
  const [store] = opened.objectStoreNames;
  const kept = opened.transaction(store).objectStore(store);
  const all = (request) => new Promise((done) => { request.onsuccess = () => done(request.result); });
  const [keys, values] = await Promise.all([all(kept.getAllKeys()), all(kept.getAll())]);
  opened.close();
  return keys.some((key, n) => String(key).includes(STREAM) && values[n].seq === SEQ);
})()"""
_ROWS = """return [...document.querySelectorAll(".row")].map((row) => ({
  id: Number(row.dataset.id),
  email: row.querySelector(".address a").textContent,
  status: row.dataset.status,
  message: row.querySelector(".status-cell > small")?.textContent ?? "",
  mails: Number(row.querySelector(".end").textContent.replace(/\\D/g, "")),
  bar: Number(row.querySelector("[role=progressbar]")?.ariaValueNow ?? -1),
}))"""


def built_console() -> None:
    """Skips (fails in CI) where `scripts/web.sh` did not build the console."""
    if not BUILT_CONSOLE.exists():
        missing("the console is not built: make web")


def mail(number: int, *, subject: str = "", sender: str = "", html: str = "") -> bytes:
    """A mail as it lies on a server; header texts are UTF-8 as they are given."""
    kind, body = ("html", html) if html else ("plain", f"Mail number {number}.")
    head = (
        f"From: {sender or f'Sender {number} <s{number}@example.org>'}\r\n"
        f"Subject: {subject or f'Mail {number}'}\r\n"
        f"Message-ID: <{number}@example.org>\r\n"
        "Date: Tue, 24 Nov 2026 10:31:07 +0000\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    return (head + body + "\r\n").encode()


class Console:
    """A running service and mail server, and a browser to look at them."""

    def __init__(self, server: Serving, mails: Dovecot | None, browser: Browser, client: Client) -> None:
        self.server = server
        self._mails = mails
        self.browser = browser
        self.client = client
        """Signed in as the user whose mailboxes are shown."""

    @property
    def mails(self) -> Dovecot:
        """The mail server. A console of an application has none."""
        assert self._mails is not None, "this console runs without a mail server"
        return self._mails

    def token(self, user_id: int = USER_ID, *, admin: bool = False) -> str:
        return self.server.token(user_id, f"user{user_id}", admin=admin, groups=("ops",))

    async def sign_in(
        self, token: str = "", *, language: str = "en", size: tuple[int, int] = (1280, 800), page: str = ""
    ) -> Tab:
        """A tab that followed the sign-in link and shows the user's mailboxes."""
        tab = await self.open(f"/#token={token or self.token()}", language=language, size=size)
        await tab.until("document.querySelector('[data-state=online]')")
        if page:
            await tab.run(f"location.hash = {json.dumps(page)}")
        return tab

    async def open(self, path: str, *, language: str = "en", size: tuple[int, int] = (1280, 800)) -> Tab:
        """A tab with that page of the service."""
        tab = await self.browser.open()
        await resize(tab, *size)
        choose = f"try {{ localStorage['huahuo.language'] ??= {json.dumps(language)} }} catch {{}}"
        await tab.page.add_init_script(_WATCH + choose)
        await tab.goto(f"{self.server.url}{path}")
        return tab

    async def add(
        self, address: str, mails: Sequence[bytes] = (), password: str = PASSWORD, port: int = 0
    ) -> int:
        """A mailbox of the user, with mails on the mail server (or behind a proxy at `port`); its id."""
        self.mails.add_user(address)
        if mails:
            await asyncio.to_thread(self.mails.add_mail, address, *mails)
        added = await self.client.send("add_email", **self.fields(address, password, port))
        email_id: int = added["email_id"]
        return email_id

    async def notify(self, message: str, level: str = "info") -> None:
        """A system notification, as an admin sends it."""
        async with Client(self.server.url, token=self.token(1, admin=True), client="admin") as admin:
            fields = {"message": message, "level": level}
            await admin.send("publish", stream="system", type="system_notification", **fields)

    def fields(self, address: str, password: str = PASSWORD, port: int = 0) -> dict[str, Any]:
        """What `add_email` wants for a mailbox of the mail server."""
        where = {"server": self.mails.host, "port": port or self.mails.port, "use_ssl": False}
        return {"email": address, "mail_type": "imap", "password": password, **where}


async def rows(tab: Tab) -> list[dict[str, Any]]:
    """The rows that the table draws now."""
    found: list[dict[str, Any]] = await tab.run(_ROWS)
    return found


async def press_button(tab: Tab, name: str, within: str = "body") -> None:
    """Click the enabled button that is called `name` (its text or its label)."""
    buttons = tab.page.locator(within).get_by_role("button", name=name, exact=True, disabled=False)
    await buttons.first.click()


async def until_text(tab: Tab, selector: str, text: str) -> None:
    """Wait until the text is in some element of that kind."""
    found = f"[...document.querySelectorAll({json.dumps(selector)})]"
    await tab.until(f"{found}.some((one) => one.textContent.includes({json.dumps(text)}))")


async def until_stored(tab: Tab, stream: str, seq: int) -> None:
    """Wait until the page has stored its place in `stream`: a page that closes earlier comes back as new."""
    await tab.until(_STORED.replace("STREAM", json.dumps(stream)).replace("SEQ", str(seq)))


async def resize(tab: Tab, width: int, height: int) -> None:
    """Give the page a window of that size."""
    await tab.page.set_viewport_size({"width": width, "height": height})


async def violations(tab: Tab) -> list[str]:
    """What the page's policy had to refuse."""
    found: list[str] = await tab.run("return window.violations ?? []")
    return found


@asynccontextmanager
async def console(
    chromium: Chromium, tmp_path: Path, within_s: float | None = ALL_WITHIN_S, **environ: str
) -> AsyncIterator[Console]:
    """Everything running, for a test that ends within this time. `environ`: further `HUAHUO_*` settings."""
    built_console()
    given: dict[str, Any] = {"HUAHUO_MESSAGES_PER_S": "0"} | environ
    with dovecot() as mails, serving(tmp_path / "data", **given) as server:
        async with profile(chromium) as browser, asyncio.timeout(within_s):
            token = server.token(USER_ID, f"user{USER_ID}")
            async with Client(server.url, token=token, client="stage", backoff_s=(0.02, 0.2)) as client:
                yield Console(server, mails, browser, client)
