"""A client on the service's own port that sends nothing more: it may have gone, which TCP does not tell."""

import asyncio
import contextlib

import pytest

from huahuo.transport.http import native
from tests.support.patience import WITHIN_S
from tests.support.worlds.people import ALICE
from tests.support.worlds.wire import until, world


async def test_its_question_is_not_worked_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "HALF_CLOSED_S", 0.1)

    async with world() as w:
        w.hold = asyncio.Event()  # no command is answered until it is set
        up, down = await asyncio.open_connection("127.0.0.1", w.port)
        down.write(
            b"POST /commands/note HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
            + w.token(ALICE).encode()
            + b'\r\nContent-Length: 12\r\n\r\n{"text":"a"}'
        )
        await until(lambda: w.executed == 1)
        down.write_eof()
        said = b""
        with contextlib.suppress(ConnectionError):
            said = await asyncio.wait_for(up.read(), WITHIN_S)
        assert said == b""
        w.hold.set()
        down.close()
