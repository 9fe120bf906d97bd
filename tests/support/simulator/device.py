"""A user's device: the Python client as applications use it, with what the device itself keeps.

What it applied, and which commands it has no answer for, are kept in one step with each event, as in a
transaction. So it goes on exactly once behind its last event, also after it was restarted.
"""

import asyncio
import contextlib
import math
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import Any

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from huahuo.transport.client import Client
from huahuo.transport.client.connection import SUBPROTOCOL
from huahuo.transport.client.model import (
    ClientError,
    ClientStopped,
    CommandError,
    Lag,
    Offline,
    Online,
    Outcome,
    StreamDenied,
    TokenExpiring,
)
from huahuo.transport.protocol.codes import NOT_RECORDED, CloseCode, ErrorCode
from tests.support.checkers.history import Applied, Asked, Door, Follower, History
from tests.support.simulator.http_socket import HttpSocket
from tests.support.simulator.node import HOST, PORT, Node, SimClock


@dataclass(slots=True)
class Waiting:
    """A command without an answer: it is sent again, with the same id, until there is one."""

    asked: Asked
    action: str
    fields: dict[str, Any]
    sent: bool = False


@dataclass(slots=True)
class Habits:
    """How a device behaves."""

    admin: bool = False
    groups: tuple[str, ...] = ()
    window: int = 512
    slow_s: float = 0.0
    packed: bool = True
    no_websocket: bool = False
    """Its network lets no WebSocket through: it lives over plain HTTP and server-sent events."""
    ttl_s: float = 10_000_000.0


@dataclass
class Kept:
    """What survives a restart of the device."""

    followers: dict[str, Follower] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    outbox: list[Waiting] = field(default_factory=list)
    parcels: list[int] = field(default_factory=list)
    flyers: list[int] = field(default_factory=list)
    stamped: list[Waiting] = field(default_factory=list)
    """Commands of an action that newer code has no more, which were answered."""
    mailboxes: list[int] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    made: int = 0


REMOVED = frozenset({"print_flyer", "stamp_flyer"})
"""Actions that the newer code has no more."""


AS_A_STRANGER: Any = {"subprotocols": [SUBPROTOCOL], "compression": None, "proxy": None}
_CANARY = re.compile(r"canary-of-(\d+)-")
COMMAND_S = 90.0
PARCELS_FOLLOWED = 3
AT_ONCE_S = 0.2
LEAVES = 0.01
"""How often a device leaves a stream after an event, to come back to it."""


def canary(user: int) -> str:
    """A text that only this user may see."""
    return f"canary-of-{user}-"


def digest_of(data: dict[str, Any]) -> str:
    """A digest of the content of an event."""
    return blake2b(msgspec.json.encode(data, order="deterministic"), digest_size=8).hexdigest()


def nonce_of(data: dict[str, Any], digest: str) -> str:
    """The nonce of an event, or the digest of its content where nobody gave it one."""
    given = data.get("nonce")
    return given if isinstance(given, str) else "#" + digest


class Device:
    """See the module. `act` is what its user does, called again and again."""

    def __init__(self, node: Node, history: History, number: int, user: int, habits: Habits) -> None:
        self.node = node
        self.number, self.user, self.habits = number, user, habits
        self.name = f"device-{number}"
        self.kept = Kept()
        self.client: Client | None = None
        self.chance = Random(f"{self.name} {node.loop.seed}")
        self.acting: Callable[[Device], Coroutine[Any, Any, None]] | None = None
        self.online = False
        self.stopped_for = ""
        self._history = history
        self._host = node.loop.net.host(self.name)
        self._lives = self._clients = 0
        self._connections = self._calls = 0
        self._asked = asyncio.Event()
        self._door: Door | None = None
        self._minted_s, self._until_s = 0.0, math.inf
        self._extra: asyncio.Queue[str] = asyncio.Queue()
        self._sent_again: set[str] = set()
        """The ids of commands that the client itself sent again after a passing error."""

    def switch_on(self) -> None:
        """Begin a life."""
        self._lives += 1
        self._host.create_task(self._live())

    def restart(self) -> None:
        """Lose everything that is not kept, without a word to the service."""
        self.client, self.online, self._door = None, False, None
        self.node.loop.crash(self.name)
        self._host.restart()
        self.switch_on()

    def cut(self) -> None:
        """Reset its connection."""
        socket = None if self.client is None else self.client._socket  # noqa: SLF001  as the network does
        if socket is not None:
            socket.transport.abort()

    def streams(self) -> list[str]:
        """What it follows."""
        own = [f"parcel/{number}" for number in self.kept.parcels[-PARCELS_FOLLOWED:]]
        groups = [f"group/{name}" for name in self.habits.groups]
        before = [name for name, follower in self.kept.followers.items() if follower.may]
        return list(dict.fromkeys([f"user/{self.user}", "system", *groups, *before, *own]))

    async def _live(self) -> None:
        while True:
            clock = self._clock(self.name)
            client = Client(
                f"ws://{HOST}:{PORT}",
                get_token=self._token,
                client=self.name,
                ambient=clock,
                window=self.habits.window,
                compression=self.habits.packed,
                backoff_s=(0.3, 4.0),
            )
            if self.habits.no_websocket:
                vars(client)["_open"] = self._open_over_http
            client.on_status(self._status)
            self._note_what_is_sent_again(client)
            with contextlib.suppress(ClientStopped):
                async with client:
                    self.client = client
                    await self._use(client)
            await asyncio.sleep(1.0 + self.chance.random())

    def _note_what_is_sent_again(self, client: Client) -> None:
        commands = client._session._commands  # noqa: SLF001  no answer tells of it
        answered = commands.answered

        def noted(command_id: str, *given: Any) -> bool:
            final = answered(command_id, *given)
            if not final:
                self._sent_again.add(command_id)
            return final

        vars(commands)["answered"] = noted

    async def _use(self, client: Client) -> None:
        self._extra = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            for stream in self.streams():
                group.create_task(self._follow(client, stream))
            group.create_task(self._send_again())
            if self.acting is not None:
                group.create_task(self.acting(self))
            group.create_task(self._follow_more(client, group))
            group.create_task(self._until_stopped(client))

    async def _until_stopped(self, client: Client) -> None:
        stopped = await client.wait_stopped()
        self.node.marks.sometimes("revoked", stopped.code == CloseCode.REVOKED)
        self.node.marks.sometimes("two incarnations of a client", stopped.code == CloseCode.SUPERSEDED)
        raise stopped

    async def _follow_more(self, client: Client, group: asyncio.TaskGroup) -> None:
        while True:
            group.create_task(self._follow(client, await self._extra.get()))

    def _token(self) -> str:
        jti = f"{self.name}-{self._lives}-{self._connections}"
        habits = self.habits
        self._minted_s = self.node.loop.time()
        self._until_s = self._minted_s + habits.ttl_s
        if self._door is not None:
            self._door.until_s = max(self._door.until_s, self._until_s)
        return self.node.token(
            self.user, admin=habits.admin, groups=habits.groups, ttl_s=habits.ttl_s, jti=jti
        )

    def _status(self, status: Any) -> None:
        marks = self.node.marks
        match status:
            case Online():
                self.online = True
                self._door = Door(self.name, self._until_s)
                self._history.doors.append(self._door)
                self._connections += 1
                self._history.counts["reconnect"] += self._connections > 1
            case Offline(code=code):
                self.online, self._door = False, None
                marks.sometimes("token expired", code == CloseCode.TOKEN_EXPIRED)
            case TokenExpiring():
                self._history.counts["renewal"] += 1
            case Lag():
                marks.sometimes("slow client lagged")
            case Outcome(stream=stream, outcome=outcome, after=after, head=head):
                self._placed(stream, outcome, after, head)
            case _:
                pass

    def _placed(self, stream: str, outcome: str, after: int, head: int) -> None:
        follower = self.kept.followers.get(stream)
        if follower is None:
            return
        resumed = outcome == "resumed" and after > 0
        self.node.marks.sometimes("resume from the middle", resumed and after < head)
        removed = self.node.runs_newer and stream.startswith("flyer/")
        self.node.marks.sometimes("removed kind resumed by an administrator", removed and resumed)
        if outcome in {"gap", "reset"}:
            self._history.counts[outcome] += 1
        elif outcome != "denied":
            follower.applied.append(Applied(stream, after, "place"))

    async def _follow(self, client: Client, stream: str) -> None:
        follower = self.kept.followers.get(stream)
        if follower is None:
            follower = self.kept.followers[stream] = Follower(self.name, self.user, stream)
            self._history.followers.append(follower)
        try:
            while True:
                last = next((one.seq for one in reversed(follower.applied) if one.kind != "place"), 0)
                after: Any = last or "start"
                async with client.events(stream, after=after, log=self.kept.logs.get(stream, "")) as events:
                    await self._read(follower, events)
                await asyncio.sleep(self.chance.random())
        except StreamDenied:
            self.node.marks.sometimes("refused for its reader")

    async def _read(self, follower: Follower, events: Any) -> None:
        """Apply what comes, until it leaves the stream in the middle."""
        async for event in events:
            self._apply(follower, event)
            if self.habits.slow_s and self.chance.random() < 0.2:
                await asyncio.sleep(self.habits.slow_s)
            if self.chance.random() < LEAVES:
                self.node.marks.sometimes("leave during broadcast")
                return

    def _apply(self, follower: Follower, event: Any) -> None:
        kind = event.type if event.type in {"snapshot", "skipped"} else "event"
        digest = digest_of(event.data) if kind == "event" else ""
        nonce = nonce_of(event.data, digest) if kind == "event" else ""
        at_s, way = self.node.loop.time(), "zstd" if self.habits.packed else "plain"
        follower.applied.append(
            Applied(event.stream, event.seq, kind, event.type, nonce, at_s, event.log, digest, way)
        )
        if kind == "event" and self._door is not None:
            self._door.got.append((event.stream, event.seq))
        self.kept.logs[event.stream] = event.log
        self._history.counts["delivery"] += 1
        if event.type == "mail_received":
            self.kept.told.append(event.data["subject"])
        for value in event.data.values():
            if isinstance(value, str) and (found := _CANARY.search(value)) is not None:
                self._history.counts["canary"] += 1
                if int(found[1]) != self.user:
                    self._history.shown.append((self.user, value))

    def stranger(self, stream: str) -> Follower:
        """A record for a stream that its user may not read: whatever is applied there is a leak."""
        follower = Follower(self.name, self.user, stream, live=False, may=False)
        self._history.followers.append(follower)
        return follower

    async def look_at(self, stream: str) -> None:
        """Ask for a stream that its user may not read."""
        if self.client is None or stream in self.kept.followers:
            return
        follower = self.stranger(stream)
        try:
            async with asyncio.timeout(5), self.client.events(stream, after="start") as events:
                async for event in events:
                    self._apply(follower, event)
        except StreamDenied:
            self.node.marks.sometimes("refused for its reader")
            removed = stream in [f"flyer/{number}" for number in self.kept.flyers]
            self.node.marks.sometimes("removed kind refused to its user", removed)
        except (ClientError, TimeoutError):
            pass

    async def lie(self) -> None:
        """Act as a client that has more than the log: it must be told to begin anew."""
        if self.client is None or not self.kept.logs:
            return
        log, stream = next(iter(self.kept.logs.values())), "system"
        follower = Follower(f"{self.name}-liar", self.user, stream, live=False)
        self._history.followers.append(follower)
        follower.applied.append(Applied(stream, 10**6, "had"))
        liar = self._another(f"{self.name}-liar")
        with contextlib.suppress(ClientError, TimeoutError):
            async with asyncio.timeout(10), liar, liar.events(stream, after=10**6, log=log) as events:
                placed = await events.ready()
                kind = "reset" if placed.outcome == "reset" else "place"
                self.node.marks.sometimes("cursor ahead of the log", kind == "reset")
                follower.applied.append(Applied(stream, placed.after, kind))

    async def twin(self) -> None:
        """A second client with the same id: the newer connection takes over from the older one."""
        twin = self._another(self.name)
        with contextlib.suppress(ClientError, TimeoutError):
            async with asyncio.timeout(10), twin:
                await twin.wait_online()

    def revoked(self, began_s: float) -> None:
        """Tokens that were made until `began_s` are worth nothing from now on."""
        if self._door is not None and self._minted_s <= began_s:
            self._door.until_s = min(self._door.until_s, self.node.loop.time())

    async def knock(self) -> None:
        """As a stranger: ask for things without a login. Nothing but the end may come back."""
        door = Door(f"{self.name}-stranger", until_s=0.0)
        self._history.doors.append(door)
        asked = ("get_all_emails", "subscribe", "publish", "whoami")
        with contextlib.suppress(OSError, TimeoutError, InvalidHandshake, ConnectionClosed):
            async with asyncio.timeout(15), connect(f"ws://{HOST}:{PORT}", **AS_A_STRANGER) as socket:
                for number, action in enumerate(asked):
                    await socket.send(msgspec.json.encode({"action": action, "id": f"s{number}"}).decode())
                async for message in socket:
                    said = msgspec.json.decode(message)
                    if said.get("type") in {"reply", "event", "events", "subscribed"}:
                        door.before.append(str(said))
        self.node.marks.sometimes("stranger turned away", not door.before)

    def _clock(self, name: str) -> SimClock:
        """Each client has a chance of its own: command ids that come again would be answered as repeats."""
        self._clients += 1
        return SimClock(self.node.loop, f"{name} {self.node.loop.seed} {self._clients}")

    def _another(self, name: str) -> Client:
        clock = self._clock(name)
        url = f"ws://{HOST}:{PORT}"
        return Client(url, get_token=self._token, client=name, ambient=clock, backoff_s=(0.3, 4.0))

    # -- commands

    async def send(self, one: Waiting) -> dict[str, Any] | None:
        """Send a command, and note the answer. None: there is none yet, or it was refused."""
        client = self.client
        if client is None:
            return None
        self._history.counts["command"] += 1
        # A sender's order is that of its first calls, as long as the service answers at once: what is sent
        # again, after a lost connection or a passing error, comes when it comes.
        self._calls += 1
        one.asked.line = 0 if one.sent or self.habits.no_websocket else self._calls
        one.sent, asked_s = True, self.node.loop.time()
        try:
            async with asyncio.timeout(COMMAND_S):
                reply = await client.request(one.action, one.fields, command_id=one.asked.command)
        except CommandError as error:
            one.asked.line = 0
            older = one.action == "seal_parcel" and self.node.was_updated
            unknown = error.code == ErrorCode.UNKNOWN_ACTION
            self.node.marks.sometimes("newer action refused by an older node", unknown and older)
            if unknown and one in self.kept.outbox and len(self.node.services) > 1:
                self.kept.outbox.remove(one)  # what is under way on another node may still be done
            elif error.code not in NOT_RECORDED:
                self._answered(one, "fail", error.code)
            return None
        except (ClientError, TimeoutError, ValueError):
            one.asked.line = 0
            return None
        late = self.node.loop.time() - asked_s > AT_ONCE_S or one.asked.command in self._sent_again
        if late or self.habits.no_websocket:  # each command is a request of its own, which has no order
            one.asked.line = 0
        self._done(one, reply)
        return reply

    async def _open_over_http(self) -> HttpSocket:
        return HttpSocket(f"ws://{HOST}:{PORT}/ws", timeout_s=10.0)

    async def _send_again(self) -> None:
        """What the last life left without an answer, and from then on what timed out."""
        while True:
            for one in list(self.kept.outbox):
                reply = await self.send(one)
                if reply is not None:
                    self.took(reply)
            if not self.kept.outbox:
                self._asked.clear()
                await self._asked.wait()
            await asyncio.sleep(5.0 + 5.0 * self.chance.random())

    def took(self, reply: dict[str, Any]) -> None:
        """Follow the parcel that was opened; an administrator also the flyer that was printed."""
        printed = reply.get("flyer_id")
        if isinstance(printed, int) and printed not in self.kept.flyers:
            self.kept.flyers.append(printed)
            if self.habits.admin:
                self._extra.put_nowait(f"flyer/{printed}")
        number = reply.get("parcel_id")
        if isinstance(number, int) and number not in self.kept.parcels:
            self.kept.parcels.append(number)
            if len(self.kept.followers) < 3 + PARCELS_FOLLOWED + len(self.habits.groups):
                self._extra.put_nowait(f"parcel/{number}")

    def waiting(self, action: str, stream: str, fields: dict[str, Any]) -> Waiting:
        """A command with a nonce of its own, kept until it is answered."""
        self.kept.made += 1
        nonce = f"{self.name}.{self.kept.made}"
        asked = Asked(self.name, self.user, nonce, stream, command=f"c-{nonce}")
        one = Waiting(asked, action, {**fields, "nonce": nonce})
        self._history.asked.append(asked)
        self.kept.outbox.append(one)
        self._asked.set()
        return one

    def _done(self, one: Waiting, reply: dict[str, Any]) -> None:
        """Note where the event of a command is."""
        at = reply.get("at") or {}
        self.node.marks.sometimes("duplicate answered from the log", reply.get("duplicate"))
        removed = one.action in REMOVED and self.node.runs_newer
        self.node.marks.sometimes("removed action answered from the log", removed and reply.get("duplicate"))
        self._answered(one, "ok", f"{at.get('stream')} {at.get('seq')} {reply.get('parcel_id')}")
        if one.asked.stream in {"", at.get("stream")}:
            one.asked.stream, one.asked.seq = at["stream"], at["seq"]

    def _answered(self, one: Waiting, answer: Any, text: str) -> None:
        self._history.counts["ack"] += answer == "ok" and one.asked.answer != "ok"
        self.node.marks.sometimes("answered again", one.asked.replies)
        one.asked.answer = answer
        one.asked.replies.append(f"{answer} {text}")
        if one in self.kept.outbox:
            self.kept.outbox.remove(one)
