"""What do checks of many mailboxes on one Dovecot cost, the first one of each and one with nothing new?

The guess before the first run: 7.5 ms of the processor for a first check of 10 mails and 2.4 ms for one with
nothing new, half of what was measured when checks were new. A script with imapclient needs as long: it
reads the mails with the email package of Python, but stores nothing.

Dovecot runs on the same cores, so the rates depend on it as much as on its client. Processor time is that of
the process that checks. Each check connects, signs in and signs out. The scripts store nothing and tell
nobody.
"""

import asyncio
import contextlib
import importlib.util
import sys
import tempfile
import time
from collections import Counter
from email.utils import formatdate
from pathlib import Path
from typing import Any

from bench.clients.plain_imap import user
from bench.harness.answers import answer
from bench.harness.harness import OURS, Metric, Options, Sheet, interleaved
from bench.harness.procs import Child, peak_bytes
from bench.harness.stages import sampling, shares
from bench.servers.dovecot import PASSWORD, Dovecot, dovecot
from huahuo import Huahuo
from huahuo.app import logs, loops
from huahuo.app.plugins import with_mail

USER = 1
MAILS_EACH = 10
AT_ONCE = 32
_PART = 1_000
SCRIPTS = {"imapclient, threads": "imapclient", "aioimaplib": "aioimaplib"}
_ENDED = frozenset({"ok", "error", "need_reauth", "cancelled"})
STAGES = {
    "/mailcheck/imap/": "IMAP",
    "/mailcheck/checks/": "checks",
    "/mailcheck/mime/": "reading mails",
    "/mailcheck/codes/": "codes",
    "/mailcheck/finding/": "index",
    "/eventstore/fulltext/": "index",
    "/mailcheck/": "decisions of mail",
    "/eventstore/": "log",
    "/replay/": "readers",
    "/transport/": "readers",
    "/actors/": "entities and effects",
}
METRICS = (
    Metric("checks", "a second", compare=True),
    Metric("mails", "a second"),
    Metric("cpu_ms", "of the processor a check", higher_is_better=False, compare=True),
    Metric("memory_mb", "the most of the process", higher_is_better=False),
)


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


def run(options: Options) -> list[Sheet]:
    """See the module. `--large`: 10,000 mailboxes; `--mailboxes`: as many."""
    count = options.storms.mailboxes or (20 if options.quick else 10_000 if options.large else 300)
    first = Sheet(f"first check of {count:,} mailboxes with {MAILS_EACH} mails each", METRICS)
    again = Sheet("a check with nothing new", METRICS)
    cases = [OURS, *(case for case, name in SCRIPTS.items() if options.wants(name))]
    for case in list(cases):
        if case != OURS and importlib.util.find_spec(SCRIPTS[case]) is None:
            first.miss(case, "not installed")
            cases.remove(case)

    with dovecot() as mails:
        if mails is None:
            first.miss(OURS, "no Dovecot on PATH")
            return [first, again]
        _fill(mails, count)

        def measure_once(case: str) -> None:
            with (
                tempfile.TemporaryDirectory(dir=options.folder) as folder,
                _child(case, folder, mails.port, count) as child,
            ):
                for sheet in (first, again):
                    stacks = Path(folder) / f"stacks {sheet.title}"
                    with sampling(child.pid, stacks) if case == OURS else contextlib.nullcontext():
                        figures = child.ask(timeout_s=3_600)
                    sheet.add(
                        case,
                        checks=count / figures["s"],
                        mails=figures["mails"] / figures["s"],
                        cpu_ms=figures["cpu_s"] * 1e3 / count,
                        memory_mb=peak_bytes(child.pid) / 1e6,
                    )
                    if case == OURS:
                        told = ", ".join(f"{s} {share:.0%}" for s, share in shares(stacks, STAGES).items())
                        sheet.note(f"of the interpreter's time: {told}")

        interleaved(cases, options.rounds, measure_once, [first, again])
    return [first, again]


def _fill(mails: Dovecot, count: int) -> None:
    """Mails of 3 KiB in each mailbox: a text, and the same as HTML."""
    text = "Your verification code is 482913.\r\n" + "It was a bright cold day in April.\r\n" * 25
    html = "".join(f"<p>{line}</p>\r\n" for line in text.splitlines())
    parts = (("plain", text), ("html", f"<html><body>{html}</body></html>\r\n"))
    body = "".join(f"--x\r\nContent-Type: text/{kind}; charset=utf-8\r\n\r\n{part}" for kind, part in parts)
    mails.headers = (
        "From: Bob <bob@example.org>\r\nMIME-Version: 1.0\r\n"
        f"Date: {formatdate()}\r\nContent-Type: multipart/alternative; boundary=x\r\n"
    )
    for number in range(count):
        for mail in range(MAILS_EACH):
            mails.deliver(user(number), f"mail {mail}", f"{body}--x--\r\n")


def _child(case: str, folder: str, port: int, count: int) -> Child:
    if case == OURS:
        command = [sys.executable, "-m", "bench.questions.many_mailboxes", folder, str(port), str(count)]
    else:
        way = SCRIPTS[case]
        command = [sys.executable, "-m", "bench.clients.plain_imap", way, str(port), str(count), str(AT_ONCE)]
    return Child(command, start_timeout_s=1_800)


def main() -> None:
    """The child."""
    folder, port, count = sys.argv[1:]
    loops.own_the_process()
    with contextlib.suppress(KeyboardInterrupt):
        loops.run(measure(Path(folder) / "data", int(port), int(count)))


if __name__ == "__main__":
    main()
