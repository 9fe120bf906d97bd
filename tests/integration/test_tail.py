"""`huahuo tail` against the real server, through a pipe: a line an event, over a lost connection too."""

import asyncio
import io
import json

import pytest
from rich.console import Console

from huahuo.cli.tail import tail
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.model import Append, NewEvent
from tests.support.drivers.clients import STREAM, behind_proxy
from tests.support.worlds.wire import until


def _lines(out: io.StringIO) -> list[str]:
    return out.getvalue().splitlines()


async def test_each_event_is_one_line_though_the_connection_is_cut() -> None:
    async with behind_proxy() as (server, proxy):
        out = io.StringIO()
        url = f"http://127.0.0.1:{proxy.port}"
        console = Console(file=out, width=40)
        following = asyncio.create_task(tail(url, STREAM, server.token, "start", console=console))
        await server.append(STREAM, "a long text that is wider than the terminal would be")
        await until(lambda: len(_lines(out)) == 1)
        proxy.cut()
        await server.append(STREAM, "b")
        await until(lambda: len(_lines(out)) == 2)
        following.cancel()
        await asyncio.wait({following})
        assert [line.split(" ", 2)[:2] for line in _lines(out)] == [["1", "noted"], ["2", "noted"]]
        assert json.loads(_lines(out)[0].split(" ", 2)[2])["text"].startswith("a long text")


async def test_codes_are_lines_with_tabs_between_the_fields() -> None:
    async with behind_proxy() as (server, _):
        out = io.StringIO()
        fields = {"email_id": 7, "received_time": "now\x1b", "code": "482913", "timestamp": "t"}
        body = json.dumps({"type": "mail_received", **fields}).encode()
        await server.log.append(Append(ts_ms=1, events=(NewEvent(STREAM, "mail_received", body),)))
        url, console = f"127.0.0.1:{server.port}", Console(file=out)
        following = asyncio.create_task(tail(url, STREAM, server.token, "0", codes=True, console=console))
        await until(lambda: _lines(out))
        following.cancel()
        await asyncio.wait({following})
        assert _lines(out) == ["now\\u001b\tmailbox 7\t482913"]


class _Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


class _Piped(Console):
    ended = False

    def on_broken_pipe(self) -> None:
        self.ended = True


async def test_a_reader_of_codes_that_closes_the_pipe_is_no_fault() -> None:
    async with behind_proxy() as (server, _):
        body = json.dumps({"type": "mail_received", "code": "482913", "timestamp": "t"}).encode()
        await server.log.append(Append(ts_ms=1, events=(NewEvent(STREAM, "mail_received", body),)))
        url, console = f"127.0.0.1:{server.port}", _Piped(file=_Closed())
        following = asyncio.create_task(tail(url, STREAM, server.token, "0", codes=True, console=console))
        await until(lambda: console.ended or following.done())
        assert console.ended
        following.cancel()
        await asyncio.wait({following})


async def test_as_json_each_line_is_an_object_with_its_place() -> None:
    async with behind_proxy() as (server, _):
        out = io.StringIO()
        await server.append(STREAM, "a")
        following = asyncio.create_task(
            tail(
                f"127.0.0.1:{server.port}",
                STREAM,
                server.token,
                "0",
                as_json=True,
                console=Console(file=out),
            )
        )
        await until(lambda: _lines(out))
        following.cancel()
        await asyncio.wait({following})
        line = json.loads(_lines(out)[0])
        assert (line["stream"], line["seq"], line["type"], line["data"]["text"]) == (
            STREAM,
            1,
            "noted",
            "a",
        )


async def test_what_happens_to_the_connection_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    async with behind_proxy() as (server, proxy):
        out = io.StringIO()
        console = Console(file=out)
        following = asyncio.create_task(
            tail(f"127.0.0.1:{proxy.port}", STREAM, server.token, "start", console=console)
        )
        await server.append(STREAM, "a")
        await until(lambda: _lines(out))
        proxy.cut()
        await proxy.connection(2)
        await server.append(STREAM, "b")
        await until(lambda: len(_lines(out)) == 2)
        following.cancel()
        await asyncio.wait({following})
    told = capsys.readouterr().err
    assert "not connected" in told
    assert "connected again" in told
    assert "resumed at 1" in told
    assert told.endswith("stopped\n")


@pytest.mark.parametrize(("stream", "message"), [("user/43", "may not read"), ("log", "may not read")])
async def test_a_stream_that_may_not_be_read_ends_it_with_an_error(stream: str, message: str) -> None:
    async with behind_proxy() as (server, _):
        with pytest.raises(HuahuoError, match=message):
            await tail(f"127.0.0.1:{server.port}", stream, server.token, console=Console(file=io.StringIO()))


async def test_a_token_that_is_not_accepted_ends_it_with_an_error() -> None:
    async with behind_proxy() as (server, _):
        url = f"127.0.0.1:{server.port}"
        with pytest.raises(HuahuoError, match=r"4500\)\. Make a new token by `huahuo token"):
            await tail(url, STREAM, lambda: "nonsense", console=Console(file=io.StringIO()))


@pytest.mark.parametrize("url", ["ftp://host", "notaurl", "http://", "http://host:port", "http://a host"])
async def test_an_address_that_cannot_be_meant_is_a_mistake_of_the_user(url: str) -> None:
    with pytest.raises(ConfigError, match="write http://HOST:PORT or HOST:PORT"):
        await tail(url, STREAM, lambda: "t", console=Console(file=io.StringIO()))
