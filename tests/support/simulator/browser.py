"""A simulated browser and its tabs, of which one holds the connection."""

import asyncio
import contextlib
import math
from random import Random
from typing import Any, Final

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from huahuo.transport.protocol.codes import NOT_RECORDED, CloseCode, Rule, rule_of
from tests.support.checkers.history import Applied, Door, Follower, History
from tests.support.simulator.device import (
    AS_A_STRANGER,
    PARCELS_FOLLOWED,
    Asks,
    Habits,
    Kept,
    canary,
    digest_of,
    nonce_of,
)
from tests.support.simulator.node import HOST, PORT, Node

OPEN_S: Final = 10.0
ANSWER_S: Final = 10.0
SIGN_IN_S: Final = 5.0
"""How long a new connection may be silent, until the service has said its heartbeat."""
ACK_S: Final = 0.25
STABLE_S: Final = 5.0
AGAIN_S: Final = 2.0
BACKOFF_S: Final = (0.3, 4.0)
_ANEW: Final = frozenset({"gap", "reset", "snapshot"})


class Lost(Exception):  # noqa: N818  what every network does
    """The connection is gone. `code`: that of its end, if the server told one."""

    def __init__(self, code: int | None, retry_s: tuple[float, float] | None = None) -> None:
        super().__init__(str(code))
        self.code = code
        self.retry_s = retry_s


class Pipe:
    """A stream of one connection: its cursor in this tab, and what was acknowledged."""

    def __init__(self, cursor: tuple[str, int] | None) -> None:
        self.cursor = cursor
        self.asked = ""
        self.active = self.awaits_state = False
        self.acked, self.again_s = -1, 0.0


class Tab:
    """See the module."""

    def __init__(self, browser: "Browser") -> None:
        self.online = False
        self._browser = browser
        self._loop = browser.node.loop
        self._socket: ClientConnection | None = None
        self._pipes: dict[str, Pipe] = {}
        self._sent: set[str] = set()
        self._door: Door | None = None
        self._log, self._heartbeat_s = "", SIGN_IN_S
        self._goaway: Lost | None = None
        self._heard_s = self._online_s = 0.0
        self._acks_at_s = math.inf
        self._subscribes = 0
        self._wake, self._thawed = asyncio.Event(), asyncio.Event()
        self._thawed.set()

    # -- its life

    def freeze(self) -> None:
        """It does nothing until `thaw`, and its socket stays open."""
        self._thawed.clear()

    def thaw(self) -> None:
        """It goes on."""
        self._thawed.set()

    def abort(self) -> None:
        """Its connection is reset."""
        if self._socket is not None:
            self._socket.transport.abort()

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    async def leave(self) -> None:
        """Its user closes it: acknowledge what was applied, and close the connection."""
        socket = self._socket
        if socket is not None and self.online:
            self._acks_at_s = 0.0
            with contextlib.suppress(ConnectionClosed):
                await self._send()
                await socket.close()

    async def own(self) -> None:
        """Connect, and come back, until the service says that it should not."""
        attempts, chance = 0, self._browser.chance
        while True:
            try:
                await self._connection()
            except Lost as lost:
                marks = self._browser.node.marks
                marks.sometimes("two tabs connected at once", lost.code == CloseCode.SUPERSEDED)
                if lost.code is not None and rule_of(lost.code) is Rule.STOP:
                    return
                attempts = 0 if self.online and self._loop.time() - self._online_s > STABLE_S else attempts
                delay_s = chance.random() * min(BACKOFF_S[1], BACKOFF_S[0] * 2**attempts)
                if lost.retry_s is not None and not attempts:
                    delay_s = chance.uniform(*lost.retry_s)
                attempts += 1
            finally:
                self.online = False
            await asyncio.sleep(delay_s)
            await self._thawed.wait()

    async def _connection(self) -> None:
        """One connection, to its end. Raises Lost."""
        try:
            async with asyncio.timeout(OPEN_S):
                socket = await connect(f"ws://{HOST}:{PORT}", ping_interval=None, **AS_A_STRANGER)
        except (OSError, TimeoutError, InvalidHandshake, EOFError, ConnectionClosed):
            raise Lost(None) from None
        self._begin(socket)
        tasks = [asyncio.ensure_future(work()) for work in (self._receive, self._send_on, self._watch)]
        try:
            await self._authenticate(socket)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except ConnectionClosed as closed:
            told = closed.rcvd
            raise self._goaway or Lost(None if told is None else told.code) from None
        finally:
            for task in tasks:
                task.cancel()
            self._socket = None
            socket.transport.abort()

    def _begin(self, socket: ClientConnection) -> None:
        self._socket, self._goaway, self._heard_s = socket, None, self._loop.time()
        self._pipes, self._sent, self._acks_at_s = {}, set(), math.inf

    async def _authenticate(self, socket: ClientConnection) -> None:
        browser = self._browser
        token, self._door = browser.sign_in()
        logs = [log for log, _ in browser.stored.values()]
        log = logs[-1] if logs else None
        cursors = {name: seq for name, (of, seq) in browser.stored.items() if of == log}
        for name in cursors:
            self._pipes[name] = pipe = Pipe(browser.stored[name])
            pipe.asked = name
        message = {
            "action": "authenticate", "token": token, "client": browser.name, "window": browser.habits.window,
            "parts": True, "resume": {"log": log, "cursors": cursors},
        }  # fmt: skip
        await socket.send(msgspec.json.encode(message).decode())

    async def _watch(self) -> None:
        """A connection that is silent is asked for a sign of life, and given up. Raises Lost."""
        while True:
            await asyncio.sleep(max(0.1, self._heard_s + self._heartbeat_s - self._loop.time()))
            await self._thawed.wait()
            if self._heard_s + self._heartbeat_s > self._loop.time():
                continue
            asked_s = self._loop.time()
            await self._say({"action": "heartbeat"})
            await asyncio.sleep(ANSWER_S)
            if self._heard_s < asked_s and self._thawed.is_set():
                raise Lost(None)

    # -- what arrives

    async def _receive(self) -> None:
        assert self._socket is not None, "it is connected"
        async for text in self._socket:
            await self._thawed.wait()
            self._heard_s = self._loop.time()
            self._received(msgspec.json.decode(text))
            self._wake.set()
        raise self._goaway or Lost(self._socket.close_code)

    def _received(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "authentication_result":
                self._authenticated(message)
            case "subscribed":
                pipe = self._pipes.get(message["stream"])
                if pipe is not None and pipe.asked == message.get("id"):
                    self._placed(message["stream"], pipe, message)
            case "events":
                self._events(message)
            case "snapshot":
                self._moved(message["stream"], message["seq"], "snapshot")
            case "skipped":
                self._moved(message["stream"], message["to"], "skipped")
            case "unsubscribed":
                self._ended(message)
            case "goaway":
                given = message.get("retry_s")
                self._goaway = Lost(message["code"], None if given is None else (given[0], given[1]))
            case "error":
                self._refused(message)
            case _ if "id" in message:
                self._browser.replied(message)
            case _:
                pass

    def _authenticated(self, result: dict[str, Any]) -> None:
        if not result["success"]:
            return  # the close says what to do
        self.online, self._online_s, self._log = True, self._loop.time(), result["log"]
        self._heartbeat_s = result["heartbeat_s"]
        self._browser.came_online()
        for name, place in result["streams"].items():
            if (pipe := self._pipes.get(name)) is not None:
                self._placed(name, pipe, place)

    def _placed(self, name: str, pipe: Pipe, place: dict[str, Any]) -> None:
        outcome, browser = place["outcome"], self._browser
        if outcome == "pending":
            return
        pipe.asked = ""
        if outcome == "denied":
            self._browser.node.marks.sometimes("refused for its reader")
            pipe.again_s = self._loop.time() + AGAIN_S
            return
        pipe.active, pipe.awaits_state = True, outcome in _ANEW
        if pipe.awaits_state:
            return
        marks = browser.node.marks
        marks.sometimes("browser resumed at its stored cursor", 0 < place["after"] < place["head"])
        if pipe.cursor == browser.stored.get(name):  # else another tab has moved on while this one was frozen
            browser.placed(name, place["after"])
        if pipe.cursor is None:
            pipe.cursor = self._log, place["after"]
            browser.stored.setdefault(name, pipe.cursor)

    def _events(self, run: dict[str, Any]) -> None:
        name, first = run["stream"], run["seq"]
        pipe = self._pipes.get(name)
        if pipe is None or not pipe.active or pipe.awaits_state or pipe.cursor is None:
            return
        if first > pipe.cursor[1] + 1:
            pipe.active = False  # ask again
            return
        for seq, body in enumerate(run["events"], first):
            if seq <= pipe.cursor[1]:
                continue
            if not self._browser.apply(pipe.cursor, name, self._log, seq, "event", body, self._door):
                pipe.cursor, pipe.active = self._browser.stored.get(name), False
                return
            pipe.cursor = self._log, seq

    def _moved(self, name: str, seq: int, kind: str) -> None:
        pipe = self._pipes.get(name)
        if pipe is None or not pipe.active:
            return
        pipe.awaits_state = False
        if self._browser.apply(pipe.cursor, name, self._log, seq, kind):
            pipe.cursor = self._log, seq
        else:
            pipe.cursor, pipe.active = self._browser.stored.get(name), False

    def _ended(self, message: dict[str, Any]) -> None:
        if (pipe := self._pipes.get(message["stream"])) is not None:
            pipe.active, pipe.asked = False, ""
            pipe.again_s = self._loop.time() + float(message.get("retry_s") or AGAIN_S)

    def _refused(self, message: dict[str, Any]) -> None:
        told = message.get("id")
        for pipe in self._pipes.values():
            if told and pipe.asked == told:
                pipe.asked, pipe.again_s = "", self._loop.time() + float(message.get("retry_s") or AGAIN_S)
                return
        if message["code"] not in NOT_RECORDED:
            self._browser.replied(message)
        else:
            self._loop.call_later(AGAIN_S, self._send_again, str(told))

    def _send_again(self, command: str) -> None:
        self._sent.discard(command)
        self._wake.set()

    # -- what is sent

    async def _send_on(self) -> None:
        while True:
            await self._wake.wait()
            await self._thawed.wait()
            self._wake.clear()
            if self.online:
                await self._send()

    async def _send(self) -> None:
        now_s, browser = self._loop.time(), self._browser
        for name in browser.streams():
            pipe = self._pipes.setdefault(name, Pipe(browser.stored.get(name)))
            if pipe.active or pipe.asked or not self._due(pipe, now_s):
                continue
            self._subscribes += 1
            pipe.asked = f"{browser.name}-s{self._subscribes}"
            place = (
                {"after": "start"}
                if pipe.cursor is None
                else dict(zip(("log", "after"), pipe.cursor, strict=True))
            )
            await self._say({"action": "subscribe", "id": pipe.asked, "stream": name, **place})
        for one in list(browser.kept.outbox):
            if one.asked.command not in self._sent:
                self._sent.add(one.asked.command)
                one.sent = True
                await self._say({"action": one.action, "id": one.asked.command, **one.fields})
        await self._acknowledge(now_s)

    def _due(self, pipe: Pipe, now_s: float) -> bool:
        if pipe.again_s > now_s:
            self._loop.call_later(pipe.again_s - now_s, self._wake.set)
            return False
        return True

    async def _acknowledge(self, now_s: float) -> None:
        due = {
            name: pipe.cursor[1]
            for name, pipe in self._pipes.items()
            if pipe.active and pipe.cursor is not None and pipe.cursor[1] > pipe.acked
        }
        if not due:
            return
        if self._acks_at_s == math.inf:
            self._acks_at_s = now_s + ACK_S
            self._loop.call_later(ACK_S, self._wake.set)
        elif self._acks_at_s <= now_s:
            self._acks_at_s = math.inf
            for name, seq in due.items():
                self._pipes[name].acked = seq
            await self._say({"action": "ack", "cursors": due})

    async def _say(self, message: dict[str, Any]) -> None:
        if self._socket is not None:
            await self._socket.send(msgspec.json.encode(message).decode())


TAB_S: Final = 20.0
"""Mean seconds that one tab owns the connection."""
FROZEN_S: Final = (5.0, 60.0)
PARCELS_MAX: Final = 2
TOKEN_S: Final = 10_000_000.0


class Browser(Asks):
    """See the module."""

    def __init__(
        self, node: Node, history: History, number: int, user: int, habits: Habits, pace_s: float
    ) -> None:
        self.node, self.user, self.habits = node, user, habits
        self.name = f"browser-{number}"
        self.kept = Kept()
        self.stored: dict[str, tuple[str, int]] = {}
        """By stream, (log, seq) of what was applied. It changes in one step with what was applied."""
        self.chance = Random(f"{self.name} {node.loop.seed}")
        self.pace_s = pace_s
        self.over = False
        self.owner: Tab | None = None
        self._history = history
        self._asked = asyncio.Event()
        self._host = node.loop.net.host(self.name)
        self._tokens = self._connections = 0
        self._doors: list[tuple[float, Door]] = []

    @property
    def online(self) -> bool:
        """Whether the tab that owns the connection is signed in."""
        return self.owner is not None and self.owner.online

    def switch_on(self) -> None:
        """Open the browser."""
        self._host.create_task(self._live())

    def restart(self) -> None:
        """The machine loses its power. What is stored stays."""
        self.owner = None
        self.node.loop.crash(self.name)
        self._host.restart()
        self.switch_on()

    def cut(self) -> None:
        """Reset the connection of the owner."""
        if self.owner is not None:
            self.owner.abort()

    def revoked(self, began_s: float) -> None:
        """Tokens that were made until `began_s` are worth nothing from now on."""
        for minted_s, door in self._doors:
            if minted_s <= began_s:
                door.until_s = min(door.until_s, self.node.loop.time())

    def streams(self) -> list[str]:
        """What it follows."""
        own = [f"parcel/{number}" for number in self.kept.parcels[-PARCELS_FOLLOWED:]]
        groups = [f"group/{name}" for name in self.habits.groups]
        return [f"user/{self.user}", "system", *groups, *own]

    # -- tabs

    async def _live(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._use())
            while True:
                self.owner = tab = Tab(self)
                owning = group.create_task(tab.own())
                await asyncio.wait({owning}, timeout=self.chance.expovariate(1 / TAB_S))
                self.node.marks.sometimes("tab took over", not owning.done())
                if owning.done():  # its user was signed out: they sign in again
                    await asyncio.sleep(self.chance.uniform(1.0, 2.0))
                    continue
                match self.chance.choice(("crash", "close", "freeze", "freeze")):
                    case "freeze":
                        tab.freeze()
                        self.node.loop.call_later(self.chance.uniform(*FROZEN_S), tab.thaw)
                    case "close":
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(1.0):
                                await tab.leave()
                        owning.cancel()
                    case _:
                        tab.abort()
                        owning.cancel()

    async def _use(self) -> None:
        """Its user opens a parcel or two, and puts things into them."""
        while True:
            await asyncio.sleep(self.chance.expovariate(1 / self.pace_s))
            if self.over:
                return
            if len(self.kept.outbox) > 3:
                continue
            if len(self.kept.parcels) < PARCELS_MAX:
                self.waiting("open_parcel", "", {"text": f"{canary(self.user)}{self.name}"})
            else:
                parcel = self.chance.choice(self.kept.parcels)
                self.waiting("add_to_parcel", f"parcel/{parcel}", {"parcel_id": parcel})
            if self.owner is not None:
                self.owner.wake()

    # -- what a tab asks of it

    def sign_in(self) -> tuple[str, Door]:
        """A token, and the record of the connection that it is for."""
        self._tokens += 1
        now_s = self.node.loop.time()
        door = Door(self.name, now_s + TOKEN_S)
        self._history.doors.append(door)
        self._doors.append((now_s, door))
        jti = f"{self.name}-{self._tokens}"
        token = self.node.token(self.user, admin=False, groups=self.habits.groups, ttl_s=TOKEN_S, jti=jti)
        return token, door

    def came_online(self) -> None:
        """A tab is signed in."""
        self._connections += 1
        self._history.counts["reconnect"] += self._connections > 1

    def follower(self, stream: str) -> Follower:
        """The record of what is applied of a stream."""
        found = self.kept.followers.get(stream)
        if found is None:
            found = self.kept.followers[stream] = Follower(self.name, self.user, stream)
            self._history.followers.append(found)
        return found

    def placed(self, stream: str, after: int) -> None:
        """The service placed a connection behind `after`."""
        if stream in self.stored:
            self.follower(stream).applied.append(Applied(stream, after, "place"))

    def apply(
        self,
        base: tuple[str, int] | None,
        stream: str,
        log: str,
        seq: int,
        kind: str,
        body: dict[str, Any] | None = None,
        door: Door | None = None,
    ) -> bool:
        """One transaction: apply, and store the cursor, unless another tab has moved it from `base`."""
        if self.stored.get(stream) != base:
            return False
        self.stored[stream] = log, seq
        if body is None:
            self.follower(stream).applied.append(Applied(stream, seq, kind, log=log))
            return True
        digest = digest_of(body)
        nonce, at_s = nonce_of(body, digest), self.node.loop.time()
        one = Applied(stream, seq, "event", body["type"], nonce, at_s, log, digest, "browser")
        self.follower(stream).applied.append(one)
        self._history.counts["delivery"] += 1
        if door is not None:
            door.got.append((stream, seq))
        return True

    def replied(self, reply: dict[str, Any]) -> None:
        """An answer to a command."""
        one = next((each for each in self.kept.outbox if each.asked.command == reply.get("id")), None)
        if one is None:
            return
        if reply["type"] == "error":
            self._answered(one, "fail", reply["code"])
            return
        self._done(one, reply)
        number = reply.get("parcel_id")
        if isinstance(number, int) and number not in self.kept.parcels:
            self.kept.parcels.append(number)
