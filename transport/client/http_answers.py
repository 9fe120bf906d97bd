"""What the server's answers over HTTP hold: an object, a refusal, or server-sent events."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator

import msgspec

from huahuo.transport.client.place_over_http import Json


class Refused(Exception):  # noqa: N818  a refusal that the server explains
    """The server refused a request, and says why in a problem (RFC 9457)."""

    def __init__(self, status: int, problem: Json) -> None:
        super().__init__(str(problem.get("detail", status)))
        self.status = status
        self.problem = problem

    @property
    def code(self) -> str:
        """Which problem it is; "" if the answer had none."""
        return str(self.problem.get("code", ""))


def json_object(content: bytes) -> Json:
    """The object in a body; an empty one if the body holds something else."""
    with contextlib.suppress(ValueError, RecursionError):
        found = msgspec.json.decode(content)
        if isinstance(found, dict):
            return found
    return {}


async def lines(parts: AsyncIterator[str], limit: asyncio.Timeout, silence_s: float) -> AsyncIterator[str]:
    """The lines. Each part of them, also of a comment, moves the limit on."""
    loop, line = asyncio.get_running_loop(), list[str]()
    async for part in parts:
        limit.reschedule(None if silence_s == math.inf else loop.time() + silence_s)
        first, *more = part.split("\n")
        line.append(first)
        for begun in more:
            yield "".join(line)
            line = [begun]


async def events(of: AsyncIterator[str]) -> AsyncIterator[tuple[str, Json]]:
    """The server-sent events of an answer: name and data."""
    name = data = ""
    async for line in of:
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            data = line[6:]
        elif not line:
            if data:
                yield name, json_object(data.encode())
            name = data = ""
