"""Requests of webhooks over real sockets: which addresses they go to, and what counts as no answer."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme

from huahuo.eventstore.ambient import SystemAmbient
from huahuo.webhooks.deliveries import PostFailed, Posting

NO_CONTENT = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"


class Server:
    """Answers every request with `answer`, or never if that is empty.

    `asked`: what the resolver was asked.
    """

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.asked: list[str] = []
        self.addresses = ["127.0.0.1"]
        self.port = 0

    async def resolve(self, host: str, _port: int) -> list[str]:
        self.asked.append(host)
        return self.addresses

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        self.requests.append(head + await reader.readexactly(size))
        if self.answer:
            writer.write(self.answer)
            writer.close()
        else:
            await reader.read()
            writer.close()

    async def post(
        self,
        host: str = "receiver.example",
        *,
        scheme: str = "http",
        allow_private: bool = True,
        timeout_s: float = 20.0,
        tls: ssl.SSLContext | None = None,
    ) -> int:
        posting = Posting(
            SystemAmbient(), allow_private=allow_private, resolver=self.resolve, timeout_s=timeout_s, tls=tls
        )
        url = f"{scheme}://{host}:{self.port}/hook?a=1"
        return await posting.post(url, [("webhook-id", "1.2")], b'{"a":1}')


@asynccontextmanager
async def server(answer: bytes = NO_CONTENT, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    made = Server(answer)
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    made.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield made


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.7", "169.254.169.254", "::1", "::ffff:127.0.0.1"])
async def test_a_name_that_leads_into_the_own_network_is_refused_after_it_was_resolved(address: str) -> None:
    async with server() as receiver:
        receiver.addresses = [address]
        with pytest.raises(PostFailed, match=r"its address is refused: (private|special)"):
            await receiver.post(allow_private=False)
        assert (receiver.asked, receiver.requests) == (["receiver.example"], [])


async def test_cloud_metadata_is_refused_even_where_private_addresses_are_allowed() -> None:
    async with server() as receiver:
        receiver.addresses = ["169.254.169.254"]
        with pytest.raises(PostFailed, match="special"):
            await receiver.post()


async def test_a_server_that_does_not_answer_in_time_has_not_answered() -> None:
    async with server(b"") as receiver:
        with pytest.raises(PostFailed, match=r"no answer within 0\.2 s"):
            await receiver.post(timeout_s=0.2)


async def test_a_server_that_goes_on_saying_to_continue_has_not_answered() -> None:
    async with server(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000) as receiver:
        assert await receiver.post() == 0


@pytest.mark.parametrize("answer", [b"220 smtp.example ESMTP\r\n", b"HTTP/1.1 200 OK", b"\x00" * 100])
async def test_what_is_no_http_is_no_answer(answer: bytes) -> None:
    async with server(answer) as receiver:
        with pytest.raises(PostFailed):
            await receiver.post()


async def test_a_certificate_that_proves_nothing_is_refused_and_nothing_is_sent() -> None:
    good, other = trustme.CA(), trustme.CA()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    good.issue_cert("receiver.example").configure_cert(serving)
    trusted, distrusted = ssl.create_default_context(), ssl.create_default_context()
    good.configure_trust(trusted)
    other.configure_trust(distrusted)
    async with server(tls=serving) as receiver:
        assert await receiver.post(scheme="https", tls=trusted) == 204
        with pytest.raises(PostFailed, match="certificate"):
            await receiver.post(scheme="https", tls=distrusted)
        with pytest.raises(PostFailed, match="certificate"):
            await receiver.post("other.example", scheme="https", tls=trusted)
        assert len(receiver.requests) == 1


async def test_nobody_listening_is_no_answer() -> None:
    async with server() as receiver:
        pass
    with pytest.raises(PostFailed):
        await receiver.post()
