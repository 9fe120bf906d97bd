"""A toy domain for entity tests: accounts that fold `account/<key>` and know nothing of mail."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import msgspec

from huahuo.actors.actor.runtime import Runtime
from huahuo.actors.entities.decider import Answer, Context, Decision, Origin
from huahuo.actors.entities.directory import Directory, DirectoryLimits
from huahuo.actors.entities.entity import Execute, Query
from huahuo.app.foundation import Fairness
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.model import Append, CommandKey, NewEvent, StoredEvent
from huahuo.replay.feed import Feed
from huahuo.replay.history.keyframes import KeyframePolicy
from huahuo.testing.world import run_virtual
from huahuo.transport.load.fair_queueing import Turns
from huahuo.transport.load.shares import Shares
from tests.support.models.faulty_log import FaultyLog, faulty_log

SERVICE = Origin(principal="service")


class Account(msgspec.Struct):
    """Mutable, so that `evolve` works in place as large states do."""

    stream: str
    balance: int = 0
    events: int = 0


class Deposit(msgspec.Struct, frozen=True):
    amount: int
    receipt: bool = False


class Withdraw(msgspec.Struct, frozen=True):
    amount: int


class PayInto(msgspec.Struct, frozen=True):
    """Move money: one append over two streams that expects the other one's head."""

    to: str
    amount: int


class Receipt(msgspec.Struct, frozen=True):
    """An effect."""

    balance: int


class Refused(msgspec.Struct, frozen=True):
    reason: str


class Done(msgspec.Struct, frozen=True):
    balance: int


type Command = Deposit | Withdraw | PayInto
type Reply = Done | Refused


class Moved(msgspec.Struct, frozen=True):
    type: str
    timestamp: str
    amount: int


class AccountDecider:
    """Always deposits, and withdraws at most the balance. `evolve_hook` lets a test observe or fail."""

    name = "account"

    def __init__(
        self,
        *,
        guarded: bool = True,
        fingerprint: str = "v1",
        evolve_hook: Callable[[StoredEvent], None] | None = None,
        decide_hook: Callable[[Account, Context], None] | None = None,
    ) -> None:
        self.guarded = guarded
        self.fingerprint = fingerprint
        self.evolve_hook = evolve_hook
        self.decide_hook = decide_hook

    def initial(self, stream: str) -> Account:
        return Account(stream)

    def evolve(self, state: Account, event: StoredEvent) -> Account:
        state.balance += msgspec.json.decode(event.body, type=Moved).amount
        state.events += 1
        if self.evolve_hook is not None:
            self.evolve_hook(event)  # if it raises, the state has been half changed
        return state

    def dump(self, state: Account) -> bytes:
        return msgspec.json.encode(state)

    def load(self, stream: str, data: bytes) -> Account:
        return msgspec.json.decode(data, type=Account)

    def decide(self, state: Account, command: Command, context: Context) -> Decision[Reply, Receipt]:
        if self.decide_hook is not None:
            self.decide_hook(state, context)
        match command:
            case Deposit(amount, receipt):
                balance = state.balance + amount
                return Decision(
                    reply=Done(balance),
                    record=msgspec.json.encode({"type": "success", "balance": balance}),
                    at_stream=state.stream,
                    events=(moved(state.stream, amount, context),),
                    effects=(Receipt(balance),) if receipt else (),
                )
            case Withdraw(amount):
                if amount > state.balance:
                    return Decision(reply=Refused("not enough"))
                balance = state.balance - amount
                return Decision(
                    reply=Done(balance),
                    record=msgspec.json.encode({"type": "success", "balance": balance}),
                    at_stream=state.stream,
                    events=(moved(state.stream, -amount, context),),
                )
            case PayInto(to, amount):
                return Decision(
                    reply=Done(state.balance - amount),
                    at_stream=to,
                    events=(moved(state.stream, -amount, context), moved(to, amount, context)),
                    expected={to: context.head(to)},
                )


def moved(stream: str, amount: int, context: Context | None = None) -> NewEvent:
    """The only event of this domain."""
    timestamp = context.timestamp if context else "2026-11-24T10:31:07.114Z"
    body = msgspec.json.encode(Moved("moved", timestamp, amount))
    return NewEvent(stream=stream, type="moved", body=body, entity=stream)


class Town:
    """A directory of accounts over a log that can misbehave, with a record of its effects."""

    def __init__(
        self,
        log: FaultyLog,
        decider: AccountDecider | None = None,
        *,
        limits: DirectoryLimits | None = None,
        keyframes: KeyframePolicy | None = None,
        rng: Random | None = None,
    ) -> None:
        self.log = log
        self.decider = decider or AccountDecider()
        self.effects: list[tuple[str, Receipt, int]] = []
        self.ambient = FakeAmbient()
        self.runtime = Runtime(asyncio.get_running_loop(), ambient=FakeAmbient(), rng=rng)
        self.feed = Feed(log)
        self.fairness = Fairness(Turns(Shares(), asyncio.get_running_loop().time))
        self.directory = Directory(
            self.runtime,
            log,
            self.feed,
            self.ambient,
            limits=limits or DirectoryLimits(),
            keyframes=keyframes or KeyframePolicy(),
            fairness=self.fairness,
        )
        self.directory.register("account", self.decider, self._effect, weigh=lambda state: state.events)

    def _effect(self, key: str, effect: Receipt, position: int) -> None:
        self.effects.append((key, effect, position))

    async def execute(self, key: str, command: Command, origin: Origin = SERVICE) -> Answer[Reply]:
        """Ask an account to do something."""
        answer: Answer[Reply] = await self.directory.ask("account", key, Execute(command, origin))
        return answer

    async def balance(self, key: str) -> tuple[int, int]:
        """(seq, balance) as the account itself says."""
        found: tuple[int, int] = await self.directory.ask(
            "account", key, Query(lambda seq, state: (seq, state.balance))
        )
        return found


def in_town(
    test: Callable[[Town], Awaitable[None]],
    decider: AccountDecider | None = None,
    *,
    limits: DirectoryLimits | None = None,
    keyframes: KeyframePolicy | None = None,
    rng: Random | None = None,
) -> None:
    """Run `test` with a directory of accounts, in virtual time; at its end everything must end."""

    async def main() -> None:
        town = Town(await faulty_log(), decider, limits=limits, keyframes=keyframes, rng=rng)
        async with asyncio.timeout(100_000):
            await test(town)
            await town.directory.close()
            await town.runtime.stop()

    run_virtual(main())


BY_ALICE = Origin(
    principal="user/42",
    command_id="c1",
    key=CommandKey("user/42", "dev", "c1"),
    fingerprint=b"deposit 5",
    cause=7,
)


async def others_deposit(town: Town, key: str, amount: int) -> None:
    """Another writer appends to the account's stream without the entity."""
    await town.log.append_soundly(Append(ts_ms=1, events=(moved(f"account/{key}", amount),)))
