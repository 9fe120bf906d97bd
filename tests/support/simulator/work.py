"""What the users of the simulated devices do, and the service itself."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from huahuo.embedding.jobs import Job
from huahuo.errors import HuahuoError
from huahuo.eventstore.errors import EventStoreError
from huahuo.transport.client.model import ClientError
from tests.support.models.model_imap import ModelImap
from tests.support.simulator.device import Device, canary
from tests.support.simulator.node import Node
from tests.support.simulator.receiver import URL, Receiver

type Deed = Callable[[Device], Coroutine[Any, Any, None]]

PARCELS_MAX = 6
FLYERS_MAX = 3
QUERY_S = 30.0
HOOK_TYPES = ("note", "parcel_noted")


class Work:
    """See the module. `weights` by kind; `stop` ends all of it."""

    def __init__(self, weights: dict[str, float], pace_s: float, imap: ModelImap) -> None:
        self._deeds: dict[str, Deed] = {
            "publish": self._publish, "burst": self._burst, "open": self._open, "add": self._add,
            "stop": self._stop, "foreign": self._foreign, "again": self._again, "list": self._list,
            "check": self._check, "lie": lambda device: device.lie(), "twin": lambda device: device.twin(),
            "knock": lambda device: device.knock(), "print": self._print, "seal": self._seal,
        }  # fmt: skip
        self._kinds = [kind for kind in self._deeds if weights.get(kind)]
        self._weights = [weights[kind] for kind in self._kinds]
        self._pace_s = pace_s
        self._imap = imap
        self.over = False
        self._begun = "publish" not in self._kinds
        self.parcels: dict[int, int] = {}
        """The owner of each parcel that somebody was told of."""
        self.mailboxes: dict[int, Device] = {}

    @property
    def mails(self) -> int:
        """How many mails lie on the server."""
        return len(self._imap.mails)

    async def act(self, device: Device) -> None:
        """What a user does until the work is over."""
        if not self._begun and device.habits.admin:  # each run has something to prove
            self._begun = True
            await self._publish(device)
        while True:
            await asyncio.sleep(device.chance.expovariate(1 / self._pace_s))
            if self.over:
                return
            [kind] = device.chance.choices(self._kinds, self._weights)
            await self._deeds[kind](device)

    async def _publish(self, device: Device) -> None:
        if not device.habits.admin:
            await self._add(device)
            return
        await device.send(self._note(device))

    def _note(self, device: Device) -> Any:
        groups = device.habits.groups
        stream = device.chance.choice(["system", *(f"group/{name}" for name in groups)])
        return device.waiting("publish", stream, {"stream": stream, "type": "note"})

    async def _burst(self, device: Device) -> None:
        """Several at a time, without waiting: they must be written in this order."""
        if not device.habits.admin or device.habits.no_websocket:  # over plain HTTP they have no order
            return
        stream = f"group/{device.habits.groups[0]}" if device.habits.groups else "system"
        fields = {"stream": stream, "type": "note"}
        many = [device.waiting("publish", stream, fields) for _ in range(device.chance.randint(2, 12))]
        await asyncio.gather(*map(device.send, many))

    async def _open(self, device: Device) -> None:
        if len(device.kept.parcels) >= PARCELS_MAX:
            await self._add(device)
            return
        one = device.waiting("open_parcel", "", {"text": f"{canary(device.user)}{device.number}"})
        reply = await device.send(one)
        if reply is not None:
            device.took(reply)
            self.parcels[reply["parcel_id"]] = device.user

    async def _add(self, device: Device, action: str = "add_to_parcel") -> None:
        if device.kept.parcels:
            parcel = device.chance.choice(device.kept.parcels)
            await device.send(device.waiting(action, f"parcel/{parcel}", {"parcel_id": parcel}))

    async def _stop(self, device: Device) -> None:
        await self._add(device, "stop_parcel")

    async def _seal(self, device: Device) -> None:
        """The newer code alone knows how."""
        await self._add(device, "seal_parcel")

    async def _print(self, device: Device) -> None:
        """Of the kind that the newer code has no more. Then its events are for administrators alone."""
        flyers = device.kept.flyers
        if device.kept.stamped and device.node.runs_newer and device.chance.random() < 0.5:
            await device.send(device.kept.stamped.pop())  # as if its answer had been lost
        elif flyers and device.node.runs_newer and not device.habits.admin:
            await device.look_at(f"flyer/{device.chance.choice(flyers)}")
        elif flyers and device.chance.random() < 0.7:
            one = device.chance.choice(flyers)
            stamp = device.waiting("stamp_flyer", f"flyer/{one}", {"flyer_id": one})
            if await device.send(stamp) is not None:
                device.kept.stamped.append(stamp)
        elif len(flyers) < FLYERS_MAX:
            reply = await device.send(device.waiting("print_flyer", "", {}))
            if reply is not None:
                device.took(reply)

    async def _foreign(self, device: Device) -> None:
        """What is another user's is neither shown nor changed."""
        others = [parcel for parcel, owner in self.parcels.items() if owner != device.user]
        if others and not device.habits.admin:
            parcel = device.chance.choice(others)
            one = device.waiting("add_to_parcel", f"parcel/{parcel}", {"parcel_id": parcel})
            await device.send(one)
            await device.look_at(f"parcel/{parcel}")

    async def _again(self, device: Device) -> None:
        """The same command id once more: the same answer, no second effect."""
        one = device.waiting("publish", "system", {"stream": "system", "type": "note"})
        if not device.habits.admin:
            if not device.kept.parcels:
                device.kept.outbox.remove(one)
                return
            parcel = device.kept.parcels[0]
            one.action, one.asked.stream = "add_to_parcel", f"parcel/{parcel}"
            one.fields = {"parcel_id": parcel, "nonce": one.asked.nonce}
        await device.send(one)
        await device.send(one)

    async def _list(self, device: Device) -> None:
        await ask(device, "get_all_emails")

    async def _check(self, device: Device) -> None:
        """A mail arrives, and the mailbox is checked."""
        if device.user != 1 or device.number != 0:
            return
        if not device.kept.mailboxes:
            added = await ask(
                device, "add_email", email="alice@example.com", password="imap-secret-canary",
                mail_type="imap", server="imap", port=143, use_ssl=False,
            )  # fmt: skip
            if added is None:
                listed = await ask(device, "get_all_emails")
                added = next(iter((listed or {}).get("emails", [])), None)
                added = None if added is None else {"email_id": added.get("email_id", added.get("id"))}
            if added is None or added.get("email_id") is None:
                return
            device.kept.mailboxes.append(added["email_id"])
        self._imap.add(mail_text(len(self._imap.mails)))
        await self.check(device)

    async def check(self, device: Device) -> None:
        """Check its mailbox."""
        if device.kept.mailboxes:
            await ask(device, "check_emails", email_ids=device.kept.mailboxes)


async def hook(device: Device, receiver: Receiver) -> None:
    """Make one webhook for the user of a device. If the answer was lost, nobody knows its secret."""
    while True:
        await asyncio.sleep(1.0)
        listed = await ask(device, "list_webhooks")
        if listed is None:
            continue
        if listed["data"]:
            return
        asked: dict[str, Any] = {
            "url": URL,
            "types": list(HOOK_TYPES),
            "streams": [f"user/{device.user}", "system"],
        }
        made = await ask(device, "add_webhook", **asked)
        if made is not None and "secret" in made:  # it is told once: a repeat has none
            receiver.secrets[made["webhook_id"]] = made["secret"]
            return


def mail_text(number: int) -> bytes:
    """A mail with a subject and an id that no other has."""
    head = f"Message-ID: <mail-{number}@example.com>\r\nSubject: mail {number}"
    return f"{head}\r\n\r\n{canary(1)}".encode()


async def ask(
    device: Device, action: str, *, command_id: str | None = None, **fields: Any
) -> dict[str, Any] | None:
    """The answer of a device's connection; None: there is none in time, or it was refused."""
    client = device.client
    if client is None:
        return None
    with contextlib.suppress(ClientError, TimeoutError):
        async with asyncio.timeout(QUERY_S):
            return await client.request(action, fields, command_id=command_id)
    return None


async def jobs(node: Node, weight: float, pace_s: float, over: Callable[[], bool]) -> None:
    """Jobs of the application: one after the other, some cut off by a crash."""
    chance = Random(f"jobs {node.loop.seed}")
    while weight and not over():
        await asyncio.sleep(chance.expovariate(weight / (4 * pace_s)))
        app = node.app
        if app is None or not node.up.is_set():
            continue
        running = node.host.create_task(_job(app, 1 + int(chance.random() * 4)))
        node.jobs_running += 1
        done, _ = await asyncio.wait({running}, timeout=60)
        node.jobs_running -= 1
        node.marks.sometimes("job interrupted", not done or running.cancelled())


async def _job(app: Any, steps: int) -> None:
    with contextlib.suppress(HuahuoError, EventStoreError, Exception):
        async with Job(app, "import", 1) as job:
            for step in range(steps):
                await asyncio.sleep(1)
                await job.progress(100 * step / steps)
