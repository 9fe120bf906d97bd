"""A token server on a machine of its own, and what mail servers know of its tokens. It outlives the service.

    POST /token  ──▶ an access token and the next refresh token; the one before stays good for now
    sign in by the access token at the mail server  ──▶ the refresh token before is given up

So a crash between the two leaves an account whose refresh token is good only if the service kept it first.
Each account has one grant, which ends when the server ends it (`end`), or when a refresh token comes that was
given up.
"""

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Final
from urllib.parse import parse_qs

import msgspec

from tests.support.checkers.history import History
from tests.support.simulator.node import Node
from tests.support.worlds.listening import listen

MACHINE: Final = "tokens"
PORT: Final = 80
URL: Final = f"http://{MACHINE}/token"
CLIENT_ID: Final = "client-of-the-simulator"
LIFETIME_S: Final = 16
"""Of an access token. The service renews it in the middle of its life."""
_HUNG_S: Final = 60.0
_HOWS: Final = ("wait", "failed", "hung", "hung", "slow", "answer lost", "answer lost")


@dataclass
class Account:
    """A mailbox at the mail server, and its grant."""

    email: str
    current: list[str]
    """Mostly one: for a request that came again there is another, and the one that is used first stays."""
    previous: str = ""
    ended: bool = False
    unused_since: int | None = None
    """How many crashes there were when the tokens were made that nobody has used."""
    access: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By access token: the refresh token that came with it, and its end."""
    signed_in_s: float = -1.0
    """When it was signed in to last."""


class TokenSide:
    """See the module. `is_kind`: every request is answered at once from now on."""

    def __init__(self, node: Node, history: History, count: int) -> None:
        self.is_kind = False
        self.crash_next = ""
        """Let the service crash in this way soon after the next tokens were made."""
        self.accounts = {f"grant-{n}@example.com": Account("", [f"refresh-{n}.0"]) for n in range(count)}
        for email, account in self.accounts.items():
            account.email = email
        self._node = node
        self._history = history
        self._chance = Random(f"tokens {node.loop.seed}")
        self._hows: list[str] = []
        self._made = 0
        self._crash: asyncio.TimerHandle | None = None
        self._kept: set[str] = set()
        self._under_way: dict[str, dict[int, Node]] = {}
        """By account and life: the service whose request is not answered yet."""
        self._last: dict[str, str] = {}
        """By account: the machine that asked last."""

    async def serve(self) -> None:
        """Listen, for ever."""
        async with await listen(self._serve, MACHINE, PORT) as server:
            await server.serve_forever()

    def crash_no_more(self) -> None:
        """Let the service live, whatever tokens are made."""
        self.crash_next = ""
        if self._crash is not None:
            self._crash.cancel()

    def end(self, account: Account) -> None:
        """End a grant: from now on its tokens are refused."""
        account.ended = True
        account.access.clear()

    async def signs_in(self, email: str, token: str) -> bool:
        """Whether the mail server takes an access token. Taken, it ends the refresh token of before."""
        account = self.accounts[email]
        refresh, until_s = account.access.get(token, ("", 0.0))
        if self._node.loop.time() > until_s:
            return False
        await self._relied_on(account, refresh)
        account.signed_in_s = self._node.loop.time()
        if refresh in account.current:
            self._node.marks.sometimes("refresh token given up", account.previous)
            account.current, account.previous, account.unused_since = [refresh], "", None
        return True

    async def _relied_on(self, account: Account, refresh: str) -> None:
        """Note for I23 that a refresh token is relied on."""
        await self._note_kept(refresh)
        self._history.rotations.append((self._account_of(refresh), "used", refresh))

    async def _note_kept(self, refresh: str) -> None:
        """Note for I23 which tokens would survive any crash, if this one is not noted yet."""
        if refresh not in self._kept:
            for token in await self._node.safe_secrets("mailbox/", "refresh_token"):
                if token not in self._kept:
                    self._kept.add(token)
                    self._history.rotations.append((self._account_of(token), "kept", token))

    @staticmethod
    def _account_of(refresh: str) -> str:
        return refresh.partition(".")[0].replace("refresh", "grant") + "@example.com"

    # -- requests

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length:")[2].partition("\r\n")[0])
            form = parse_qs((await reader.readexactly(length)).decode())
        except (OSError, ValueError, asyncio.IncompleteReadError):
            writer.transport.abort()
            return
        sent = form["refresh_token"][0]
        asking = self._node.asking(str(writer.get_extra_info("peername")[0]))
        name, life = self._account_of(sent), asking.life
        await self._note_kept(sent)  # another node may have replaced it when its access token comes
        self._begin(name, asking)
        answer = await self._answer(sent, reader, asking)
        self._history.refreshes.append((name, life, "over"))
        self._under_way[name].pop(life, None)
        if answer is None or writer.is_closing():  # simloop raises for a write to a closed connection
            writer.transport.abort()
            return
        writer.write(answer)
        writer.close()

    def _begin(self, name: str, asking: Node) -> None:
        """Note that a request begins, and which others under way are of lives that are not heard of."""
        noted, under_way = self._history.refreshes, self._under_way.setdefault(name, {})
        for life, other in list(under_way.items()):
            if life != asking.life and not (other.life == life and other.is_heard_of()):
                noted.append((name, life, "unheard"))
                del under_way[life]
        noted.append((name, asking.life, "begun"))
        under_way[asking.life] = asking
        before, self._last[name] = self._last.get(name, asking.name), asking.name
        self._node.marks.sometimes("grant renewed by another node", before != asking.name)

    async def _answer(self, sent: str, reader: asyncio.StreamReader, asking: Node) -> bytes | None:
        """None: the connection ends without an answer."""
        how = self._draw()
        self._node.marks.sometimes("token server hung", how == "hung")
        self._node.marks.sometimes("token server asked to wait", how == "wait")
        if how == "wait":
            seconds = self._chance.choice((1, 4, 40))
            return _http("429 Too Many Requests", {"error": "slow_down"}, f"retry-after: {seconds}\r\n")
        if how == "failed":
            return _http("503 Service Unavailable", {})
        made_first = self._chance.random() < 0.5
        tokens = self._refresh(sent) if made_first else None
        if how == "hung":
            await _hung_up(reader, _HUNG_S)
            return None
        if how == "slow" and await _hung_up(reader, self._chance.uniform(0.5, 4)):
            return None
        tokens = self._refresh(sent) if tokens is None else tokens
        if how == "answer lost":
            return None
        if "error" in tokens:
            return _http("400 Bad Request", tokens)
        if self.crash_next:
            way, self.crash_next = self.crash_next, ""
            self._crash = self._node.loop.call_later(self._chance.uniform(0.0, 0.25), asking.crash, way)
        return _http("200 OK", tokens)

    def _draw(self) -> str:
        """What goes wrong with this request, "" if nothing does."""
        if self.is_kind or self._chance.random() < 0.6:
            return ""
        if not self._hows:
            self._hows = self._chance.sample(_HOWS, len(_HOWS))
        return self._hows.pop()

    def _refresh(self, sent: str) -> dict[str, object]:
        account = self.accounts[self._account_of(sent)]
        marks = self._node.marks
        crashes = self._history.counts["crash"]
        unused_since = account.unused_since
        marks.sometimes("crash between refresh and use", unused_since is not None and unused_since < crashes)
        if account.ended or sent not in (*account.current, account.previous):
            self._history.counts["refused grant"] += 1
            marks.sometimes("grant ended by its server", account.ended)
            return {"error": "invalid_grant", "error_description": "it was given up"}
        marks.sometimes("refresh token used again before its successor", sent == account.previous)
        if sent in account.current:
            account.current, account.previous = [], sent
        self._made += 1
        refresh = f"{sent.partition('.')[0]}.{self._made}.canary"
        account.current.append(refresh)
        account.unused_since = crashes
        access = f"access-{self._made}"
        account.access[access] = refresh, self._node.loop.time() + LIFETIME_S
        marks.sometimes("refresh token rotated")
        return {"access_token": access, "refresh_token": refresh, "expires_in": LIFETIME_S}


def _http(status: str, body: dict[str, object], more: str = "") -> bytes:
    raw = msgspec.json.encode(body)
    return (
        f"HTTP/1.1 {status}\r\nconnection: close\r\n{more}content-length: {len(raw)}\r\n\r\n".encode() + raw
    )


async def _hung_up(reader: asyncio.StreamReader, within_s: float) -> bool:
    """Wait; whether the other side ended the connection meanwhile."""
    try:
        async with asyncio.timeout(within_s):
            await reader.read(1)
    except TimeoutError:
        return False
    except OSError:
        pass
    return True
