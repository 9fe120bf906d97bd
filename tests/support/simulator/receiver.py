"""A receiver of webhooks on a machine of its own: it refuses, is silent, or loses its answer, now and then.

It outlives the service, and keeps what it accepted.
"""

import asyncio
import base64
import hashlib
import hmac
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Final

import msgspec

from tests.support.simulator.loop import Loop
from tests.support.simulator.marks import Marks
from tests.support.worlds.listening import listen

MACHINE: Final = "hooks"
PORT: Final = 80
URL: Final = f"http://{MACHINE}/books"
FAILS_MAX: Final = 3
"""Of attempts of one delivery: with more of them, the next one would be due when the run is over."""
_SILENT_S: Final = 40.0
_HOWS: Final = ("refused", "silent", "reset", "answer lost")


class Receiver:
    """See the module. `is_kind`: it takes everything at once from now on."""

    def __init__(self, loop: Loop, marks: Marks) -> None:
        self.is_kind = False
        self.secrets: dict[int, str] = {}
        """By webhook, where the answer that told it arrived."""
        self.accepted: list[tuple[int, int, str, int]] = []
        """(webhook, position, stream, seq) of each delivery that it accepted, in order."""
        self.false: list[str] = []
        """What came and was not what a receiver may get."""
        self._marks = marks
        self._chance = Random(f"receiver {loop.seed}")
        self._failed = Counter[str]()
        self._taken = set[str]()

    async def serve(self) -> None:
        """Listen, for ever."""
        async with await listen(self._serve, MACHINE, PORT) as server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[1:]
            pairs = (line.partition(":") for line in head if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            body = await reader.readexactly(int(headers["content-length"]))
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()
            return
        how = self._draw(headers["webhook-id"])
        if how == "silent":
            await asyncio.sleep(_SILENT_S)
        if how in {"", "answer lost"}:
            self._take(headers, body)
        if how in {"silent", "reset", "answer lost"}:
            writer.transport.abort()
            return
        status = "204 No Content" if not how else "503 Service Unavailable\r\ncontent-length: 0"
        if writer.is_closing():  # simloop raises for a write to a connection that was reset
            return
        writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
        writer.close()

    def _draw(self, delivery: str) -> str:
        """What goes wrong with this attempt, "" if nothing does."""
        if self.is_kind or self._failed[delivery] >= FAILS_MAX or self._chance.random() < 0.6:
            return ""
        self._failed[delivery] += 1
        return self._chance.choice(_HOWS)

    def _take(self, headers: Mapping[str, str], body: bytes) -> None:
        delivery = headers["webhook-id"]
        hook, position = map(int, delivery.split("."))
        told = msgspec.json.decode(body)["data"]
        self.accepted.append((hook, position, told["stream"], told["seq"]))
        self._marks.sometimes("webhook accepted after a refusal", self._failed[delivery])
        self._marks.sometimes("webhook delivered twice", delivery in self._taken)
        self._taken.add(delivery)
        secret = self.secrets.get(hook)
        if secret is not None and not _is_signed(secret, headers, body):
            self.false.append(f"delivery {delivery} is not signed with the secret of its webhook")


def _is_signed(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """By the rule of Standard Webhooks."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    mine = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return any(hmac.compare_digest(one, f"v1,{mine}") for one in headers["webhook-signature"].split(" "))
