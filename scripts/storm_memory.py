"""Whether memory comes back after four storms of one user (docs/limits.md): python scripts/storm_memory.py.

A service with default limits, 20,000 mailboxes of one user, thirty connections that want lists and snapshots
for eight seconds, read nothing and go; four times. Prints resident memory, and fails above 1.3 times the
baseline and 60 MiB a minute later. Linux only.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import websockets

sys.path.insert(0, str(Path(__file__).parent.parent))

from huahuo.transport.client.client import Client
from tests.support.servers.serving import Serving, serving

CONNECTIONS, STORMS, STORM_S, SETTLE_S = 30, 4, 8.0, 60.0
IMPORTS, LINES = 10, 2_000
PAUSE_S = 0.012  # below the rate limit
STREAM = "user/42"


def resident_mib(pid: int) -> float:
    """What the process has in memory."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


async def hoard(url: str, token: str, number: int) -> None:
    """One connection that asks and does not read."""
    socket = f"{url.replace('http', 'ws')}/ws"
    async with websockets.connect(socket, subprotocols=["huahuo.v1"], max_size=None) as ws:  # type: ignore[list-item]
        await ws.send(json.dumps({"action": "authenticate", "token": token, "client": f"c{number}"}))
        await ws.recv()
        ws.transport.pause_reading()
        try:
            async with asyncio.timeout(STORM_S):
                asked = 0
                while True:
                    asked += 1
                    await ws.send(json.dumps({"action": "get_all_emails", "id": f"{asked}"}))
                    await ws.send(json.dumps({"action": "subscribe", "stream": STREAM, "after": "snapshot"}))
                    await asyncio.sleep(2 * PAUSE_S)
        except (TimeoutError, websockets.ConnectionClosed):
            ws.transport.abort()


async def measure(server: Serving) -> bool:
    """The storms; whether memory came back."""
    token = server.token(42, "alice", ttl_s=9000)
    async with Client(server.url, token=token) as client:
        for part in range(IMPORTS):
            lines = (f"u{part}-{number}@x.example.com----password" for number in range(LINES))
            await client.send("import_emails", mail_type="imap", data="\n".join(lines))
        await client.send("get_all_emails")
    await asyncio.sleep(SETTLE_S / 3)
    before = resident_mib(server.pid)
    print(f"before {before:.0f} MiB")  # noqa: T201
    for storm in range(1, STORMS + 1):
        await asyncio.gather(*(hoard(server.url, token, number) for number in range(CONNECTIONS)))
        print(f"storm {storm}: {resident_mib(server.pid):.0f} MiB")  # noqa: T201
    await asyncio.sleep(SETTLE_S)
    after, allowed = resident_mib(server.pid), 1.3 * before + 60
    print(f"a minute later {after:.0f} MiB, allowed {allowed:.0f}")  # noqa: T201
    return after <= allowed


def main() -> None:
    """See the module."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder) / "data", HUAHUO_LOG_LEVEL="error") as server,
    ):
        sys.exit(0 if asyncio.run(measure(server)) else 1)


if __name__ == "__main__":
    main()
