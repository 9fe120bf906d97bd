"""What a mail says is shown and does nothing: not in a list, not in an event, not in its own frame."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.drivers.browser import Chromium, Tab
from tests.support.drivers.console import Console, console, mail, press_button, until_text, violations

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

_PICTURE = "document.querySelector('iframe[src$=remote]').contentDocument?.querySelector('#picture')"
MARKUP = '<img src=x onerror="window.hacked=1"><script>window.hacked=2</script>'
CALL = "<img src=x onerror=parent.hacked=11>"
REPARSED = (
    f'<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;{CALL[1:-1]}&gt;">',
    f"<form><math><mtext></form><form><mglyph><style></math>{CALL}",
    f'<svg></p><style><a id="</style>{CALL}">',
    f'<noscript><p title="</noscript>{CALL}">',
    f"<svg><annotation-xml><foreignobject><style><!--</style><p id='-->{CALL}'>",
    f"<template><template shadowrootmode=open>{CALL}</template></template>",
)
"""Each means another thing when what a parser made of it is parsed once more."""
STYLE = "<style>* { display: none !important }</style>"


def _evil_html(canary: str) -> str:
    return f"""<html><head><title>t</title>
      <meta http-equiv="refresh" content="0;url={canary}/refresh"><base href="{canary}/base/">
      <link rel="stylesheet" href="{canary}/sheet.css"><link rel="prefetch" href="{canary}/prefetch">
      <style>@import "{canary}/import.css"; body {{ background: url({canary}/bg.png) }}
        #first {{ color: rgb(1, 2, 3) }} .workplace, .top {{ display: none !important }}</style></head>
      <body onload="parent.hacked=3" background="{canary}/body.png">
      <p id="first">A mail with <b style="color: rgb(4, 5, 6)">styles</b></p>
      {MARKUP}<img id="picture" src="{canary}/pixel.png"><img srcset="{canary}/set.png 1x">
      <svg onload="parent.hacked=4"><script>parent.hacked=5</script></svg>
      <iframe src="{canary}/frame"></iframe><iframe srcdoc="<script>parent.parent.hacked=6</script>"></iframe>
      <object data="{canary}/object"></object><embed src="{canary}/embed">
      <video src="{canary}/v" poster="{canary}/p"></video>
      <form action="{canary}/form"><input autofocus onfocus="parent.hacked=7"><button>go</button></form>
      <a id="bad" href="javascript:parent.hacked=8">bad</a> <a id="good" href="https://example.org/x">good</a>
      <a id="top" href="{canary}/top" target="_top">top</a>
      <div style="position:fixed;inset:0;background:url({canary}/style.png)">over everything</div>
      </body></html>"""


class _Asked(list[str]):
    """The paths that were asked for, and the addresses of pages that came with them."""

    def __init__(self) -> None:
        super().__init__()
        self.referers: list[str] = []


@asynccontextmanager
async def _canary() -> AsyncIterator[tuple[str, _Asked]]:
    """A web server that notes what it is asked for."""
    asked = _Asked()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readline()).decode()
        if line:  # a browser also opens connections ahead and closes them unused
            asked.append(line.split(" ")[1])
            while (header := (await reader.readline()).decode().strip()) != "":
                if header.lower().startswith("referer:"):
                    asked.referers.append(f"{asked[-1]} {header}")
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


async def _open_first_mail(on: Console, *mails: bytes, address: str = "alice@example.org") -> Tab:
    email_id = await on.add(address, mails)
    tab = await on.sign_in(page=f"#/mailboxes/{email_id}")
    await press_button(tab, "Check", ".mail-panel")
    await tab.until(f"document.querySelectorAll('.mail-list li').length === {len(mails)}")
    return tab


async def _show(tab: Tab, position: int = 1) -> None:
    await tab.click(f".mail-list li:nth-child({position}) a")
    await tab.until("document.querySelector('.mail-view h2')")


async def test_markup_in_subjects_senders_and_notifications_is_text(on: Console) -> None:
    tab = await _open_first_mail(
        on, mail(1, subject=MARKUP + STYLE, sender=f'"{STYLE}<svg onload=hacked=9>" <a@example.org>')
    )
    await until_text(tab, ".mail-list b", MARKUP + STYLE)
    await tab.run("location.hash = '#/mailboxes'")
    await until_text(tab, ".event", "window.hacked=1")
    await tab.run("location.hash = '#/mailboxes/1'")
    await until_text(tab, ".mail-list b", MARKUP)
    await _show(tab)
    await until_text(tab, ".mail-view h2", MARKUP + STYLE)
    await on.notify(MARKUP)
    await until_text(tab, ".toast", MARKUP)
    assert await tab.run("return window.hacked ?? null") is None
    assert await tab.run("return document.querySelectorAll('#app img, #app script, #app style').length") == 0
    assert await violations(tab) == []


async def test_a_mail_s_html_runs_nothing_fetches_nothing_and_styles_only_itself(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with _canary() as (canary, asked), console(chromium, tmp_path) as on:
        tab = await _open_first_mail(on, mail(1, html=_evil_html(canary)))
        await _show(tab)
        await tab.until("document.querySelector('iframe').contentDocument?.querySelector('#first')")
        inner = "document.querySelector('iframe').contentDocument"
        colours = await tab.run(
            f"""const style = (at) => getComputedStyle({inner}.querySelector(at)).color;
                    return [style("#first"), style("#first b")]"""
        )
        assert colours == ["rgb(1, 2, 3)", "rgb(4, 5, 6)"], "its own styles hold"
        kept = await tab.run(f"return {inner}.documentElement.outerHTML.toLowerCase()")
        for gone in (
            "<script",
            "<iframe",
            "<form",
            "<object",
            "<embed",
            "<svg",
            "<base",
            "onerror",
            "javascript:",
        ):
            assert gone not in kept
        for link in ("#bad", "b"):
            await tab.run(f"{inner}.querySelector({json.dumps(link)}).click()")
        await _tried_everything(tab)
        assert asked == []
        assert await tab.run("return window.hacked ?? null") is None
        assert await tab.run("return getComputedStyle(document.querySelector('.top')).display") == "flex"
        assert (
            await tab.run("return document.querySelector('iframe').contentWindow.location.pathname")
            == "/mail-frame"
        )
        good = f"{inner}.querySelector('#good')"
        assert await tab.run(f"return [{good}.target, {good}.rel]") == [
            "_blank",
            "noopener noreferrer nofollow",
        ]


async def test_a_clicked_link_opens_outside_and_has_no_way_back(chromium: Chromium, tmp_path: Path) -> None:
    async with _canary() as (canary, asked), console(chromium, tmp_path) as on:
        tab = await _open_first_mail(on, mail(1, html=_evil_html(canary)))
        await _show(tab)
        shown = tab.page.url
        async with tab.page.context.expect_page() as opening:
            link = tab.page.frame_locator("iframe").locator("#top")
            await link.evaluate("(link) => link.click()")
        opened = await opening.value
        await opened.wait_for_load_state()
        assert await opened.evaluate("window.opener") is None
        assert "/top" in asked
        assert tab.page.url == shown, "the console is where it was"


@pytest.fixture(scope="module")
async def shared(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Console]:
    """One console for all tricks: each has a mailbox and a tab of its own."""
    async with console(chromium, tmp_path_factory.mktemp("shared"), within_s=None) as on:
        yield on


@pytest.mark.parametrize("trick", REPARSED)
async def test_html_that_changes_when_it_is_parsed_again_holds_nothing_to_run(
    shared: Console, trick: str
) -> None:
    tab = await _open_first_mail(
        shared,
        mail(1, html=f"<p id=first>text</p>{trick}"),
        address=f"trick-{REPARSED.index(trick)}@example.org",
    )
    await _show(tab)
    inner = "document.querySelector('iframe').contentDocument"
    await tab.until(f"{inner}?.querySelector('#first')")
    handlers = await tab.run(
        f"""const again = new DOMParser().parseFromString({inner}.body.innerHTML, "text/html");
                return [...{inner}.querySelectorAll("*"), ...again.querySelectorAll("*")]
                  .flatMap((one) => one.getAttributeNames()).filter((name) => name.startsWith("on"))"""
    )
    assert handlers == []
    await _tried_everything(tab)
    assert await tab.run("return window.hacked ?? null") is None
    await tab.close()


async def test_elements_named_like_parts_of_a_document_do_not_take_their_place(on: Console) -> None:
    names = ("body", "images", "documentElement", "querySelectorAll", "defaultView")
    clobbering = "".join(f"<img name={name} alt=''><form name={name}></form>" for name in names)
    tab = await _open_first_mail(on, mail(1, html=f"{clobbering}<p style='height: 500px'>tall</p>"))
    await _show(tab)
    await tab.until("document.querySelector('iframe').clientHeight > 500")
    assert not [line for line in tab.said if line.startswith("thrown")]


async def test_the_frame_s_policy_alone_holds_a_mail_that_nobody_cleaned(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with _canary() as (canary, asked), console(chromium, tmp_path) as on:
        tab = await on.open("/")
        await tab.run(
            f"""const frame = document.createElement("iframe");
                    frame.src = "/mail-frame";
                    const loaded = new Promise((done) => (frame.onload = done));
                    document.body.append(frame);
                    await loaded;
                    const inner = frame.contentDocument;
                    inner.documentElement.innerHTML = {json.dumps(_evil_html(canary))};
                    const script = inner.createElement("script");
                    script.textContent = "parent.hacked = 10";
                    inner.body.append(script);
                    inner.querySelector("form").submit()"""
        )
        await _tried_everything(tab)
        assert asked == []
        assert await tab.run("return window.hacked ?? null") is None


async def test_an_opened_mail_has_its_code_its_recipients_its_source_and_the_window_s_width(
    chromium: Chromium, tmp_path: Path
) -> None:
    sent = mail(1, subject="Your verification code", html="<p>Your verification code is 482913.</p>")
    sent = b"To: alice+shop@example.org\r\n" + sent
    async with console(chromium, tmp_path) as on:
        tab = await _open_first_mail(on, sent)
        await _show(tab)
        await until_text(tab, ".mail-view .code", "482913")
        await until_text(tab, ".mail-view dl", "alice+shop@example.org")
        width = "document.querySelector('.mail-panel').clientWidth"
        assert await tab.run(f"return {width} === innerWidth")
        await press_button(tab, "Source")
        await until_text(tab, ".mail-view pre", "To: alice+shop@example.org")
        async with tab.page.expect_download() as saving:
            await press_button(tab, "Download")
        saved = await saving.value
        assert saved.suggested_filename == "Your verification code.eml"
        assert Path(await saved.path()).read_bytes() == sent


async def test_pictures_from_elsewhere_are_loaded_only_when_asked_for(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with _canary() as (canary, asked), console(chromium, tmp_path) as on:
        tab = await _open_first_mail(on, mail(1, html=_evil_html(canary)), mail(2, html="<p>plain</p>"))
        await _show(tab, 2)
        await tab.until("document.querySelector('iframe').contentDocument?.querySelector('#picture')")
        await _tried_everything(tab)
        assert asked == []
        await press_button(tab, "Load images")
        await tab.until(f"{_PICTURE}?.complete")
        await _tried_everything(tab)
        assert "/pixel.png" in asked
        assert set(asked) <= {"/pixel.png", "/set.png"}, "pictures, and nothing else"
        assert await tab.run("return window.hacked ?? null") is None
        await press_button(tab, "Back")
        await _show(tab, 1)
        await tab.until(
            "document.querySelector('iframe').contentDocument?.body?.textContent.includes('plain')"
        )
        shown = await tab.run("return document.querySelector('iframe').contentWindow.location.pathname")
        assert shown == "/mail-frame", "the next mail asks anew"
        assert not await tab.run("return document.querySelector('.remote')")


async def test_no_picture_from_elsewhere_learns_where_it_is_shown(chromium: Chromium, tmp_path: Path) -> None:
    async with _canary() as (canary, asked), console(chromium, tmp_path) as on:
        html = f"""<html><head><style>@import "{canary}/import.css"; @import url({canary}/import2.css);
          #a {{ background: url({canary}/sheet.png) }} #b {{ list-style-image: u\\72l({canary}/escaped.png) }}
          @media all {{ #c {{ background-image: image-set("{canary}/set-of-sheet.png" 1x) }} }}
          #d {{ --x: url({canary}/custom.png); background: var(--x) }}
          #e::before {{ content: url({canary}/content.png) }} #f {{ color: rgb(1, 2, 3);
          & b {{ border-image: url({canary}/nested.png) 1 }} }}
          @keyframes k {{ from {{ background: url({canary}/frames.png) }} }} #g {{ animation: k 1s infinite }}
          </style></head><body background="{canary}/body.png">
          <img id="picture" src="{canary}/pixel.png">
          <img srcset="{canary}/set.png 1x" referrerpolicy="unsafe-url">
          {"".join(f"<ul><li id={one} style=display:list-item>{one} <b>b</b></li></ul>" for one in "abcdefg")}
          <table background="{canary}/table.png"><tr><td>t</td></tr></table>
          <div style="color: rgb(4, 5, 6); background: url({canary}/inline.png)">i</div>
          <div style="background: u\\72l({canary}/inline2.png)">i</div>
          <div style="--y: url({canary}/inline3.png); background: var(--y)">i</div></body></html>"""
        tab = await _open_first_mail(on, mail(1, html=html))
        await _show(tab)
        await tab.until("document.querySelector('iframe').contentDocument?.querySelector('#picture')")
        await press_button(tab, "Load images")
        await tab.until(f"{_PICTURE}?.complete")
        await _tried_everything(tab)
        assert asked.referers == []
        assert set(asked) == {"/pixel.png", "/set.png"}
        inner = "document.querySelector('iframe').contentDocument"
        colours = (
            f"[...{inner}.querySelectorAll('#f, div')].slice(0, 2).map((one) => getComputedStyle(one).color)"
        )
        assert await tab.run(f"return {colours}") == ["rgb(1, 2, 3)", "rgb(4, 5, 6)"], "other styles hold"


async def _tried_everything(tab: Tab) -> None:
    """Long enough for what would be loaded or run to have been: two frames and a request of our own."""
    await tab.run(
        """await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
           await fetch("/healthz");
           await new Promise((done) => setTimeout(done, 150))"""
    )
