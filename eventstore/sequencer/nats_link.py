"""One connection to a NATS server, and requests over it. It does not reconnect: its user opens another."""

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from huahuo.eventstore.sequencer.address import (
    Host,
    LogAddress,
    SignInRefused,
    let_go,
    password_of,
    tls_context,
    tls_refusal,
    user_key_of,
)
from huahuo.eventstore.sequencer.port import InDoubt, Unreachable

CONNECT_S = 3.0
CLOSE_S = 0.5
PING_S = 3
"""A server that leaves two pings unanswered has gone."""
AGAIN_S = 0.5
"""An unanswered request is sent again: while a log has no leader, servers drop requests silently."""
AGAIN_EVENLY = 3
"""So often with the same pause: a new leader answers within that. A slow server gets few more."""
AGAIN_BYTES_MAX = 256 << 10
"""What is larger may still be on its way."""
ERRORS = (nats.errors.Error, OSError, TimeoutError, ssl.SSLError)

_ENDED = (BrokenPipeError, ConnectionResetError, nats.errors.ConnectionClosedError, nats.errors.UnexpectedEOF)
"""How a connection over TLS may end that the server refuses."""


class NotEncrypted(nats.errors.Error):
    """The server takes the connection in the clear, and it must be TLS."""


class ApiError(Exception):
    """JetStream refused a request of its API. `code` is its own number for the reason."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Link:
    """One connection. `ended` is set once it is of no more use."""

    def __init__(self, host: Host, *, encrypted: bool = False) -> None:
        """`encrypted`: a server that takes no TLS is told nothing."""
        self.host = host
        self.encrypted = encrypted
        self.ended = asyncio.Event()
        self.reason = ""
        self.client: Client = _Client(self)
        self._inbox = ""
        self._tokens = itertools.count()
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._ends: set[Callable[[], None]] = set()

    async def open(self, address: LogAddress, password: str) -> None:
        """Connect and sign in.

        Raises:
            SignInRefused, FileUnusable: see there.
            nats.errors.Error, OSError, TimeoutError: it does not answer.
        """
        # Before `connect`: the client can't be closed if that was not called.
        key, tls = user_key_of(address), tls_context(address) if address.encrypted else None
        scheme = "tls" if address.encrypted else "nats"
        try:
            async with asyncio.timeout(CONNECT_S):
                await self.client.connect(
                    [f"{scheme}://{self.host}"],
                    name="huahuo",
                    user=address.user if password else None,
                    password=password or None,
                    token=address.user if address.user and not password else None,
                    user_jwt_cb=(lambda: key.jwt) if key else None,
                    signature_cb=key.sign if key else None,
                    tls=tls,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    connect_timeout=round(CONNECT_S),
                    ping_interval=PING_S,
                    max_outstanding_pings=2,
                    error_cb=self._hear_error,
                    closed_cb=self._hear_end,
                )
                self._inbox = self.client.new_inbox()
                await self.client.subscribe(f"{self._inbox}.*", cb=self._hear_answer)
        except BaseException as error:
            await self.close()
            if "uthorization" in f"{self.reason} {error}":
                what = "file of creds=" if key else "user and password"
                raise SignInRefused(f"{self.host} refuses to let us in: look at the {what}") from None
            raise

    async def request(
        self, subject: str, body: bytes, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> Msg:
        """Send and wait for the answer. It may arrive more than once, so it must do no harm then.

        Raises:
            Unreachable: nobody has received it.
            InDoubt: the answer did not come.
        """
        if self.ended.is_set():
            raise Unreachable(f"{self.host} has gone")
        token = str(next(self._tokens))
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Msg] = loop.create_future()
        self._waiting[token] = future
        deadline = loop.call_later(timeout_s, self._expire, future)
        again: asyncio.Task[None] | None = None

        async def send() -> None:
            await self.client.publish(
                subject, body, reply=f"{self._inbox}.{token}", headers=dict(headers) if headers else None
            )

        def send_again() -> None:
            nonlocal again
            again = loop.create_task(_again_and_again(send), name="question to NATS again")

        late = loop.call_later(AGAIN_S, send_again) if len(body) <= AGAIN_BYTES_MAX else None
        try:
            try:
                await send()
            except (nats.errors.ConnectionClosedError, nats.errors.OutboundBufferLimitError):
                raise Unreachable(f"{self.host} has gone") from None
            except ERRORS as error:
                raise InDoubt(f"{self.host} went away: {type(error).__name__}") from None
            answer = await future
        finally:
            deadline.cancel()
            if late is not None:
                late.cancel()
            if again is not None:
                again.cancel()
            self._waiting.pop(token, None)
        if answer.headers and answer.headers.get("Status") == "503":
            raise Unreachable(f"no server serves {subject}: the log has no leader now")
        return answer

    async def ask(self, api: str, body: object = None, timeout_s: float = 5.0) -> Any:
        """A request of JetStream's API, as JSON.

        Raises:
            ApiError: it was refused.
            Unreachable: there was no answer.
        """
        try:
            answer = await self.request(
                f"$JS.API.{api}", b"" if body is None else msgspec.json.encode(body), timeout_s
            )
        except InDoubt as error:
            raise Unreachable(str(error)) from None
        found = msgspec.json.decode(answer.data)
        if refused := found.get("error"):
            raise ApiError(int(refused.get("err_code", 0)), str(refused.get("description", "")))
        return found

    async def close(self) -> None:
        """Let go of the connection."""
        self._end()
        try:
            with contextlib.suppress(*ERRORS):
                # After a failed TLS handshake, or with a frozen server, the client would wait for ever.
                async with asyncio.timeout(CLOSE_S):
                    await self.client.close()
        finally:
            # It holds the socket while a server that says nothing owes it room, and has no other door to it.
            writer = getattr(self.client._transport, "_bare_io_writer", None)  # noqa: SLF001
            if writer is not None:
                await let_go([writer.transport])

    def on_end(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` when the connection has ended. Returns a function that takes that back."""
        self._ends.add(call)
        return lambda: self._ends.discard(call)

    async def _hear_answer(self, message: Msg) -> None:
        future = self._waiting.get(message.subject.rpartition(".")[2])
        if future is not None and not future.done():
            future.set_result(message)

    async def _hear_error(self, error: Exception) -> None:
        self.reason = f"{type(error).__name__}: {error}"

    async def _hear_end(self) -> None:
        self._end()

    def _end(self) -> None:
        self.ended.set()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(InDoubt(f"the connection to {self.host} ended before the answer"))
        for call in list(self._ends):
            call()

    def _expire(self, future: asyncio.Future[Msg]) -> None:
        if not future.done():
            future.set_exception(InDoubt(f"{self.host} has not answered"))


class _Client(Client):
    """The client alone would go on in the clear with a server, or somebody between, that asks for no TLS."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._of = link

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Comes before the password is sent."""
        if initial_connection and self._of.encrypted and not info.get("tls_required"):
            raise NotEncrypted("it does not require TLS: give it a certificate, or say ?tls=off")
        await super()._process_info(info, initial_connection)


async def _again_and_again(send: Callable[[], Awaitable[None]]) -> None:
    """Until it is answered, which cancels this, or cannot be sent any more."""
    with contextlib.suppress(*ERRORS):
        for times in itertools.count(1):
            await send()
            await asyncio.sleep(AGAIN_S * 2 ** max(0, times - AGAIN_EVENLY))


async def open_link(address: LogAddress, hosts: Sequence[Host]) -> Link:
    """A connection to the first of `hosts` that answers.

    Raises:
        Unreachable: none does.
        SignInRefused: one answers, and refuses to let us in.
        FileUnusable: a file that the address names can't be used.
    """
    password = password_of(address)
    reasons = []
    for host in hosts:
        link = Link(host, encrypted=address.encrypted)
        try:
            await link.open(address, password)
        except ERRORS as error:
            silent = "it does not answer" if isinstance(error, TimeoutError) else ""
            said = link.reason or silent or str(error) or type(error).__name__
            if isinstance(error, ssl.SSLError) or (address.encrypted and isinstance(error, _ENDED)):
                said = tls_refusal(error, address, said)
            reasons.append(f"{host}: {said}")
        else:
            return link
    raise Unreachable(f"no server answers at {address}: {'; '.join(reasons)}")
