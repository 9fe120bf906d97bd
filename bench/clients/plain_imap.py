"""Checks of many mailboxes as a script does them: imapclient in threads, or aioimaplib. Nothing is stored.

python -m bench.clients.plain_imap WAY PORT COUNT AT_ONCE

A check signs in, opens INBOX, fetches what is newer than the last UID that it knows, reads subject
and text with Python's email package, and signs out. Each line of standard input asks for a round of checks.
"""

import asyncio
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes, policy

from bench.harness.answers import answer
from bench.servers.dovecot import PASSWORD

_TIMEOUT_S = 300
"""Ten seconds, its default, are too few where all checks begin at once on a busy machine."""
_UID = re.compile(rb"UID ([0-9]+)")


def user(number: int) -> str:
    """The name of a mailbox."""
    return f"m{number}@example.org"


def read(source: bytes) -> None:
    """What anybody who checks a mailbox looks at."""
    mail = message_from_bytes(source, policy=policy.default)
    assert mail["subject"]
    body = mail.get_body(("plain", "html"))
    assert body is None or body.get_content()


def in_threads(port: int, count: int, at_once: int) -> Callable[[], int]:
    """A round of checks with imapclient; it gives the number of mails."""
    from imapclient import IMAPClient

    seen = [0] * count

    def check(number: int) -> int:
        client = IMAPClient("127.0.0.1", port=port, ssl=False, use_uid=True)
        client.login(user(number), PASSWORD)
        client.select_folder("INBOX", readonly=True)
        uids = [uid for uid in client.search(f"UID {seen[number] + 1}:*") if uid > seen[number]]
        for uid, fields in client.fetch(uids, ["BODY.PEEK[]"]).items() if uids else ():
            read(fields[b"BODY[]"])
            seen[number] = max(seen[number], uid)
        client.logout()
        return len(uids)

    pool = ThreadPoolExecutor(at_once)
    return lambda: sum(pool.map(check, range(count)))


def with_asyncio(port: int, count: int, at_once: int) -> Callable[[], int]:
    """The same with aioimaplib."""
    from aioimaplib import IMAP4

    seen = [0] * count

    async def check(number: int, places: asyncio.Semaphore) -> int:
        async with places:
            client = IMAP4("127.0.0.1", port, timeout=_TIMEOUT_S)
            await client.wait_hello_from_server()
            await client.login(user(number), PASSWORD)
            await client.select("INBOX")  # its `examine` leaves it in a state that reads nothing
            found = 0
            answered = await client.uid("fetch", f"{seen[number] + 1}:*", "(UID BODY.PEEK[])")
            for line, source in zip(answered.lines, answered.lines[1:], strict=False):
                uid = _UID.search(line) if isinstance(source, bytearray) else None
                if uid is not None and int(uid[1]) > seen[number]:
                    read(bytes(source))
                    seen[number], found = int(uid[1]), found + 1
            await client.logout()
            return found

    async def round_() -> int:
        places = asyncio.Semaphore(at_once)
        return sum(await asyncio.gather(*(check(number, places) for number in range(count))))

    return lambda: asyncio.run(round_())


def main() -> None:
    """See the module."""
    way, port, count, at_once = sys.argv[1], *map(int, sys.argv[2:])
    checked = (in_threads if way == "imapclient" else with_asyncio)(port, count, at_once)
    answer({"ready": True})
    for _line in sys.stdin:
        cpu_s, at_s = time.process_time(), time.perf_counter()
        mails = checked()
        answer({"mails": mails, "s": time.perf_counter() - at_s, "cpu_s": time.process_time() - cpu_s})


if __name__ == "__main__":
    main()
