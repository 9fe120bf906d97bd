"""How long others wait for one user's longest commands (bench/RESULTS.md): python scripts/import_delays.py.

Two bystanders publish and read 50 events a second at a service with default limits. Meanwhile one user sends
imports of 20,000 lines, and deletions and checks of 1,000 ids, one after the other. Prints, for each kind,
how long its answers took and what the bystanders saw.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.questions.bystanders import Bystanders
from bench.sheets import quantile
from huahuo.transport.client.client import Client
from tests.support.servers.serving import Serving, serving

LINES, IDS = 20_000, 1_000
IMPORTS, ROUNDS = 4, 6
PER_S, SECONDS_MAX = 50.0, 60.0
CALM_S, SETTLE_S = 3.0, 1.0


async def measure(server: Serving) -> None:
    """All three, and calm before."""
    tokens = (
        server.token(901, "publisher", admin=True),
        server.token(902, "reader", groups=("bystanders",)),
    )
    async with (
        Client(server.url, token=server.token(42, "alice", ttl_s=9000)) as client,
        Bystanders(server.port, *tokens) as bystanders,
    ):
        ids: list[int] = []

        async def imports(number: int) -> None:
            lines = (f"u{number}-{line}@x.example.com----password" for line in range(LINES))
            await client.send("import_emails", mail_type="imap", data="\n".join(lines))

        async def deletes(number: int) -> None:
            await client.send("delete_emails", email_ids=ids[number * IDS : (number + 1) * IDS])

        async def checks(number: int) -> None:
            await client.send("check_emails", email_ids=ids[-(number + 1) * IDS :][:IDS])

        async def calm(_number: int) -> None:
            await asyncio.sleep(CALM_S)

        async def storm(name: str, rounds: int, send: Callable[[int], Awaitable[None]]) -> None:
            took_ms: list[float] = []
            receipts: list[float] = []
            for number in range(rounds):
                began_s = time.monotonic()
                sent = asyncio.ensure_future(send(number))
                while not sent.done():
                    receipts += (await bystanders.measure(PER_S, 0.1)).receipts
                await sent
                took_ms.append((time.monotonic() - began_s) * 1e3)
                receipts += (await bystanders.measure(PER_S, SETTLE_S)).receipts
            print(  # noqa: T201
                f"{name:8} answered in {', '.join(f'{ms:.0f}' for ms in took_ms)} ms; others' receipts"
                f" p50 {quantile(receipts, 0.5):.1f}, max {max(receipts):.0f} ms"
            )

        await storm("calm", 1, calm)
        await storm("imports", IMPORTS, imports)
        page = await client.send("get_all_emails")
        ids += [row["id"] for row in page["data"]]
        await storm("deletes", ROUNDS, deletes)
        await storm("checks", ROUNDS, checks)


def main() -> None:
    """See the module."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder) / "data", HUAHUO_LOG_LEVEL="error") as server,
    ):
        asyncio.run(measure(server))


if __name__ == "__main__":
    main()
