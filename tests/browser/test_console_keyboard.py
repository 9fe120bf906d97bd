"""The console without a mouse: Tab reaches every control in the order of the page, and the focus is seen."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.drivers.browser import Chromium, Tab
from tests.support.drivers.console import console, mail, press_button, until_text

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PAGES = {
    "mailboxes": ".grid", "search": "input[type=search]", "live": ".live", "programs": "main h2",
    "account": "main h2", "users": ".users", "audit": "main", "clients": "main", "notify": "main form",
}  # fmt: skip
"""Pages with something that shows that they are there."""
STOPS_MAX = 150
_STOPS = """
const seen = (one) => one.getClientRects().length && getComputedStyle(one).visibility === "visible";
const radios = new Set();
const kinds = "a[href], button, input, select, textarea, summary, iframe, [tabindex]";
return [...document.querySelectorAll(kinds)]
  .filter((one) => one.tabIndex >= 0 && !one.disabled && seen(one) && !one.closest("[inert]"))
  .filter((one) => one.type !== "radio" || (!radios.has(one.name) && radios.add(one.name)))
  .map((one, n) => { one.dataset.stop ??= `${n} ${NAME(one)}`; return one.dataset.stop; });
""".replace("NAME(one)", "(one.ariaLabel || one.name || one.textContent.trim() || one.tagName).slice(0, 30)")
_AT = """
const one = document.activeElement, style = getComputedStyle(one);
const outline = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
const around = one.closest("label, .field, .switch, fieldset");
const within = around ? getComputedStyle(around) : style;
const parts = ["date", "datetime-local"].includes(one.type);  // the browser marks the part that is typed into
const boxes = parts || [style, within].some((one) => one.boxShadow !== "none");
const marked = outline || boxes || within.outlineStyle !== "none";
const radio = one.type === "radio" ? document.querySelector(`[name="${one.name}"][data-stop]`) : null;
const stop = (radio ?? one).dataset.stop ?? one.outerHTML.slice(0, 80);
return one === document.body ? null : { stop, marked };
"""
_INSIDE = "const one = document.activeElement; return one === document.body || !!one.closest('dialog')"


async def stops(tab: Tab) -> list[dict[str, Any]]:
    """Where Tab leads from the top of the page, until it leaves the page."""
    await tab.run(
        "document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex')"
    )
    found: list[dict[str, Any]] = []
    for _ in range(STOPS_MAX):
        await tab.press("Tab")
        at = await tab.run(_AT)
        if at is None or (found and at == found[0]):
            break
        found.append(at)
    return found


async def test_tab_reaches_every_control_of_each_page_and_shows_where_it_is(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with console(chromium, tmp_path) as on:
        await on.add("alice@example.org", [mail(1)])
        tab = await on.sign_in(on.token(admin=True))
        faults: dict[str, dict[str, Any]] = {}
        for page, there in PAGES.items():
            await tab.run(f"location.hash = '#/{page}'")
            await tab.until(f"document.querySelector({json.dumps(there)})")
            wanted = await tab.run(_STOPS)
            reached = await stops(tab)
            names = [one["stop"] for one in reached]
            known = [wanted.index(name) for name in names if name in wanted]
            found = {
                "not reached": [one for one in wanted if one not in names],
                "not marked": [one["stop"] for one in reached if not one["marked"]],
                "out of order": [] if known == sorted(known) else names,
            }
            if any(found.values()):
                faults[page] = found
        assert faults == {}


async def test_a_dialog_opens_by_enter_keeps_the_focus_and_gives_it_back_by_escape(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with console(chromium, tmp_path) as on:
        await on.add("alice@example.org", [mail(1)])
        tab = await on.sign_in()
        await until_text(tab, ".facts", "1 mailbox")
        for name in ("Add", "Import", "Export"):
            button = tab.page.get_by_role("button", name=name, exact=True).first
            await button.focus()
            await tab.press("Enter")
            await tab.until("document.querySelector('dialog[open]')")
            for _ in range(25):
                await tab.press("Tab")
                assert await tab.run(_INSIDE), f"{name}: the focus left the dialog"
            await tab.press("Escape")
            await tab.until("!document.querySelector('dialog[open]')")
            assert await button.evaluate("one => one === document.activeElement"), name


async def test_a_mailbox_is_added_opened_and_closed_without_a_mouse(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with console(chromium, tmp_path) as on:
        on.mails.add_user("bob@example.org")
        tab = await on.sign_in()
        await tab.page.get_by_role("button", name="Add", exact=True).first.focus()
        await tab.press("Enter")
        await tab.until("document.querySelector('dialog[open] input')")
        await tab.page.locator("dialog input[name=email]").focus()
        await tab.page.keyboard.type("bob@example.org")
        await tab.page.locator("dialog input[name=password]").focus()
        await tab.page.keyboard.type("secret")
        await tab.press("Enter")
        await until_text(tab, ".address", "bob@example.org")
        await tab.until("!document.querySelector('dialog[open]')")
        await tab.page.locator(".row .address a").first.focus()
        await tab.press("Enter")
        await tab.until("document.querySelector('.mail-panel')")
        await tab.page.locator(".mail-panel button").first.focus()
        await tab.press("Escape")
        await tab.until("!document.querySelector('.mail-panel')")
        await press_button(tab, "Check all")
