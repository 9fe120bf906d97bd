"""What do watched mailboxes cost that wait in IDLE on a real Dovecot, and how soon is a new mail told?

The guess before the first run: 12 KB a mailbox, 2 % of a core for 1,000 that idle, 0.5 s at the median.
"""

import asyncio
import contextlib
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.harness.answers import answer
from bench.harness.harness import OURS, Metric, Options, Sheet, interleaved
from bench.harness.procs import Child
from bench.questions.directory import resident_bytes
from bench.servers.dovecot import PASSWORD, Dovecot, dovecot
from huahuo import Huahuo
from huahuo.app import logs, loops
from huahuo.app.plugins import with_mail
from huahuo.mailcheck.domain.mail import MailDomain

USER = 1
IDLE_S = 30.0
MAILS = 50
_PART = 1_000


async def measure(folder: Path, port: int, count: int) -> None:
    """Watch the mailboxes; then print the figures, and the subject of each mail when it is told."""
    logs.configure("error", as_json=False)
    app = Huahuo(
        plugins=with_mail(),
        data=folder,
        port=0,
        mail_allow_private=True,
        providers={"imap": {"connections_max": 2 * count}},
        mail_folders=(),
    )
    async with app:
        ids = []
        for number in range(count):
            added = await app.send(
                "add_email", as_user=USER, email=f"m{number}@example.org", password=PASSWORD,
                server="127.0.0.1", port=port, use_ssl=False,
            )  # fmt: skip
            ids.append(added["email_id"])
        added_bytes = resident_bytes()
        mail: MailDomain = app.running.api("mail")
        watching = mail.watching
        began = time.perf_counter()
        for at in range(0, count, _PART):
            await app.send("watch_emails", as_user=USER, email_ids=ids[at : at + _PART], on=True)
        while watching.idle < count:  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0.1)
        connected_s = time.perf_counter() - began
        await asyncio.sleep(5)
        cpu_s, at_s = time.process_time(), time.perf_counter()
        await asyncio.sleep(IDLE_S)
        busy = (time.process_time() - cpu_s) / (time.perf_counter() - at_s)
        watched_bytes = resident_bytes()
        answer(
            {
                "connected_s": round(connected_s, 1),
                "service_mb": round(watched_bytes / 1e6, 1),
                "kb_each": round((watched_bytes - added_bytes) / count / 1e3, 1),
                "core_idle": round(100 * busy, 2),
            }
        )
        async for event in app.follow(f"user/{USER}"):
            if event["type"] == "mail_received":
                answer({"subject": event["subject"]})


COSTS = (
    Metric("connected_s", "until the last one waits in IDLE", higher_is_better=False),
    Metric("service_mb", "the whole process", higher_is_better=False),
    Metric("kb_each", "a mailbox that waits, in addition to its row", higher_is_better=False),
    Metric("core_idle", "per cent of a core while nothing comes", higher_is_better=False),
)
LATENCY = (
    Metric("latency_p50_ms", "from the delivery to the event", higher_is_better=False),
    Metric("latency_p99_ms", "from the delivery to the event", higher_is_better=False),
)


def run(options: Options) -> list[Sheet]:
    """See the module.

    Dovecot has a process and an inotify instance for each idle session, and looks every 30 s without one.
    So it serves few mailboxes, and a server of our own serves many.
    """
    few, many = (10, 20) if options.quick else (60, 10_000)
    real = Sheet(f"{few:,} mailboxes in IDLE on Dovecot", (*COSTS, *LATENCY))
    own = Sheet(f"{many:,} mailboxes in IDLE on a server that does nothing else", COSTS)

    def measure_once(case: str) -> None:
        del case
        with (
            Child([sys.executable, "-m", "bench.servers.idle_imap"]) as server,
            tempfile.TemporaryDirectory(dir=options.folder) as folder,
            child(folder, server.hello["port"], many) as service,
        ):
            own.add(OURS, **service.hello)
        with dovecot() as mails, tempfile.TemporaryDirectory(dir=options.folder) as folder:
            if mails is None:
                return
            for number in range(few):
                mails.deliver(f"m{number}@example.org", "before")
            with child(folder, mails.port, few) as service:
                late = latencies_ms(service, mails, few)
                figures = {
                    "latency_p50_ms": round(statistics.median(late)),
                    "latency_p99_ms": round(statistics.quantiles(late, n=100)[98]),
                }
                real.add(OURS, **service.hello, **figures)

    interleaved([OURS], options.rounds, measure_once, [own, real])
    return [own, real]


def child(folder: str, port: int, count: int) -> Child:
    """The service that watches."""
    command = [sys.executable, "-m", "bench.questions.watching", folder, str(port), str(count)]
    return Child(command, start_timeout_s=1_800)


def latencies_ms(child: Child, server: Dovecot, count: int) -> list[float]:
    """One mail after the other, to mailboxes by chance."""
    chance = random.Random(1)
    late = []
    for number in range(min(MAILS, 5 * count)):
        subject = f"mail {number}"
        began = time.perf_counter()
        server.deliver(f"m{chance.randrange(count)}@example.org", subject)
        while child.receive(100)["subject"] != subject:
            pass
        late.append((time.perf_counter() - began) * 1e3)
    return late


def main() -> None:
    """The child."""
    folder, port, count = sys.argv[1:]
    loops.own_the_process()
    with contextlib.suppress(KeyboardInterrupt):
        loops.run(measure(Path(folder) / "data", int(port), int(count)))


if __name__ == "__main__":
    main()
