"""What do checks of many mailboxes on one Dovecot cost, the first one of each and one with nothing new?

The guess before the first run: 7.5 ms of the processor for a first check of 10 mails and 2.4 ms for one with
nothing new, half of what was measured when checks were new. A script with imapclient needs as long: it
reads the mails with the email package of Python, but stores nothing.

Dovecot runs on the same cores, so the rates depend on it as much as on its client. Processor time is that of
the process that checks. Each check connects, signs in and signs out. The script stores nothing and tells
nobody.
"""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes, policy
from email.utils import formatdate
from pathlib import Path
from typing import Any

from bench.processes import Child, answer, peak_bytes
from bench.sheets import OURS, Metric, Options, Sheet, interleaved
from huahuo import Huahuo
from huahuo.app import logs, process
from huahuo.app.application import with_mail
from tests.support.servers.dovecot import PASSWORD, Dovecot, dovecot

USER = 1
MAILS_EACH = 10
AT_ONCE = 32
_PART = 1_000
SCRIPT = "imapclient"
"""A script that stores nothing and tells nobody."""
_ENDED = frozenset({"ok", "error", "need_reauth", "cancelled"})
_CONFIG = """\
default_client_limit = 15000
mail_max_userip_connections = 0
service imap-login {
  restart_request_count = unlimited
  process_min_avail = 1
  process_limit = 4
}
service imap {
  process_limit = 2000
  restart_request_count = 1000
}
"""
"""What lets Dovecot bear thousands of mailboxes."""
METRICS = (
    Metric("checks", "a second", compare=True),
    Metric("mails", "a second"),
    Metric("cpu_ms", "of the processor a check", higher_is_better=False, compare=True),
    Metric("memory_mb", "the most of the process", higher_is_better=False),
)


def user(number: int) -> str:
    """The name of a mailbox."""
    return f"m{number}@example.org"


async def measure(folder: Path, port: int, count: int) -> None:
    """Add the mailboxes; then a round of checks for each line of standard input."""
    logs.configure("error", as_json=False)
    app = Huahuo(
        plugins=with_mail(), data=folder, port=0, mail_allow_private=True, mail_folders=(),
        checks_at_once=AT_ONCE, checks_per_host=AT_ONCE, providers={"imap": {"connections_max": AT_ONCE}},
    )  # fmt: skip
    async with app:
        ids = []
        for number in range(count):
            added = await app.send(
                "add_email", as_user=USER, email=user(number), password=PASSWORD, server="127.0.0.1",
                port=port, use_ssl=False,
            )  # fmt: skip
            ids.append(added["email_id"])
        said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def hear() -> None:
            async for event in app.follow(f"user/{USER}"):
                if event["type"] in {"email_status_update", "mail_received"}:
                    said.put_nowait({"type": event["type"], "status": event.get("status")})

        hearing = asyncio.create_task(hear())
        answer({"ready": True})
        while await asyncio.to_thread(sys.stdin.readline):
            answer(await _round(app, ids, said))
        hearing.cancel()


async def _round(app: Huahuo, ids: list[int], said: "asyncio.Queue[dict[str, Any]]") -> dict[str, Any]:
    """One check of each mailbox."""
    cpu_s, at_s = time.process_time(), time.perf_counter()
    for at in range(0, len(ids), _PART):
        await app.send("check_emails", as_user=USER, email_ids=ids[at : at + _PART])
    ended: Counter[str] = Counter()
    mails = 0
    while ended.total() < len(ids):
        event = await said.get()
        mails += event["type"] == "mail_received"
        if event["status"] in _ENDED:
            ended[event["status"]] += 1
    assert ended["ok"] == len(ids), ended
    took_s, used_s = time.perf_counter() - at_s, time.process_time() - cpu_s
    return {"mails": mails, "s": took_s, "cpu_s": used_s}


def script(port: int, count: int) -> Callable[[], int]:
    """A round of checks as a script does them, with imapclient in threads; it gives the number of mails."""
    from imapclient import IMAPClient

    seen = [0] * count

    def check(number: int) -> int:
        client = IMAPClient("127.0.0.1", port=port, ssl=False, use_uid=True)
        client.login(user(number), PASSWORD)
        client.select_folder("INBOX", readonly=True)
        uids = [uid for uid in client.search(f"UID {seen[number] + 1}:*") if uid > seen[number]]
        for uid, fields in client.fetch(uids, ["BODY.PEEK[]"]).items() if uids else ():
            mail = message_from_bytes(fields[b"BODY[]"], policy=policy.default)
            assert mail["subject"]
            body = mail.get_body(("plain", "html"))
            assert body is None or body.get_content()
            seen[number] = max(seen[number], uid)
        client.logout()
        return len(uids)

    pool = ThreadPoolExecutor(AT_ONCE)
    return lambda: sum(pool.map(check, range(count)))


def run(options: Options) -> list[Sheet]:
    """See the module. `--large`: 10,000 mailboxes; `--mailboxes`: as many."""
    count = options.mailboxes or (20 if options.quick else 10_000 if options.large else 300)
    first = Sheet(f"first check of {count:,} mailboxes with {MAILS_EACH} mails each", METRICS)
    again = Sheet("a check with nothing new", METRICS)
    if shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
        first.miss(OURS, "no Dovecot on PATH")
        return [first, again]
    cases = [OURS]
    if options.wants(SCRIPT):
        if importlib.util.find_spec(SCRIPT) is None:
            first.miss(SCRIPT, "not installed")
        else:
            cases.append(SCRIPT)
    with dovecot(extra_config=_CONFIG) as mails:
        _fill(mails, count)

        def one(case: str, folder: Path) -> None:
            given = [case, str(folder / "data"), str(mails.port), str(count)]
            command = [sys.executable, "-m", "bench.questions.many_mailboxes", *given]
            with Child(command, start_timeout_s=1_800) as child:
                for sheet in (first, again):
                    figures = child.ask(timeout_s=3_600, check=True)
                    sheet.add(
                        case,
                        checks=count / figures["s"],
                        mails=figures["mails"] / figures["s"],
                        cpu_ms=figures["cpu_s"] * 1e3 / count,
                        **({"memory_mb": peak_bytes(child.pid) / 1e6} if case == OURS else {}),
                    )

        interleaved(cases, options, one, [first, again])
    return [first, again]


def _fill(mails: Dovecot, count: int) -> None:
    """Mails of 3 KiB in each mailbox: a text, and the same as HTML."""
    text = "Your verification code is 482913.\r\n" + "It was a bright cold day in April.\r\n" * 25
    html = "".join(f"<p>{line}</p>\r\n" for line in text.splitlines())
    parts = (("plain", text), ("html", f"<html><body>{html}</body></html>\r\n"))
    body = "".join(f"--x\r\nContent-Type: text/{kind}; charset=utf-8\r\n\r\n{part}" for kind, part in parts)
    head = (
        "From: Bob <bob@example.org>\r\nMIME-Version: 1.0\r\n"
        f"Date: {formatdate()}\r\nContent-Type: multipart/alternative; boundary=x\r\n\r\n"
    )
    made = [f"Subject: mail {number}\r\n{head}{body}--x--\r\n".encode() for number in range(MAILS_EACH)]
    for number in range(count):
        mails.add_user(user(number))
        mails.add_mail(user(number), *made)


def main() -> None:
    """The child."""
    case, folder, port, count = sys.argv[1:]
    if case == SCRIPT:
        checked = script(int(port), int(count))
        answer({"ready": True})
        for _line in sys.stdin:
            cpu_s, at_s = time.process_time(), time.perf_counter()
            mails = checked()
            answer({"mails": mails, "s": time.perf_counter() - at_s, "cpu_s": time.process_time() - cpu_s})
        return
    process.own_the_process()
    with contextlib.suppress(KeyboardInterrupt):
        process.run(measure(Path(folder), int(port), int(count)))


if __name__ == "__main__":
    main()
