"""A user whose mailboxes sign in with grants: adds them, lets mails arrive, and has them checked."""

import asyncio
from random import Random
from typing import Final

from huahuo.mailcheck.servers.providers import ProviderOptions
from tests.support.checkers.history import History
from tests.support.models.model_imap import ModelImap
from tests.support.simulator.device import Device, canary
from tests.support.simulator.node import Node
from tests.support.simulator.token_side import CLIENT_ID, MACHINE, URL, TokenSide
from tests.support.simulator.work import ask

MAIL_TYPE: Final = "office"
SYNC_S: Final = 0.15
"""How long a sync of the disk takes at most, so that there is a moment before a token is durable."""
_PACE_S: Final = 5.0
_LIVES_AGAIN_S: Final = 300.0

OPTIONS: Final = ProviderOptions(auth="xoauth2", token_url=(URL,), client_id=CLIENT_ID)


class Grants:
    """See the module. `over`: the user does no more."""

    def __init__(self, node: Node, history: History, count: int) -> None:
        node.sync_s = SYNC_S
        node.mail_more["providers"] = {MAIL_TYPE: OPTIONS}
        self.over = False
        self.side = TokenSide(node, history, count)
        self._node = node
        self._history = history
        self._chance = Random(f"grants {node.loop.seed}")
        self._ids: dict[str, int] = {}
        self._asking = asyncio.Lock()
        self._imaps = {email: ModelImap("", "", [_text(email, 0)]) for email in self.side.accounts}

    def begin(self) -> None:
        """Let the servers serve."""
        net = self._node.loop.net
        net.host(MACHINE).create_task(self.side.serve())
        for email, imap in self._imaps.items():
            imap.by_token = self.side.signs_in
            net.host(_machine(email)).create_task(imap.serve(143))

    async def look(self, device: Device) -> None:
        """Another device of the user, which may be at another node: it opens mailboxes that are there."""
        while not self.over:
            await asyncio.sleep(self._chance.expovariate(1 / _PACE_S))
            if self._ids:
                email_id = self._ids[self._chance.choice(sorted(self._ids))]
                await ask(device, "get_folders", email_id=email_id)

    async def live(self, device: Device) -> None:
        """What the user does until it is over."""
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / _PACE_S))
            if self.over:
                return
            email = self._chance.choice(list(self._imaps))
            if self._chance.random() < 0.5:
                self._imaps[email].add(_text(email, len(self._imaps[email].mails)))
            await self._check(device, email)

    async def _check(self, device: Device, email: str) -> None:
        async with self._asking:
            if email not in self._ids and not await self._add(device, email):
                return
            await ask(device, "check_emails", email_ids=[self._ids[email]])

    async def _add(self, device: Device, email: str) -> bool:
        """Whether it is there. Asked again after a lost answer, it is the same command."""
        added = await ask(
            device, "add_email", command_id=f"add-{_machine(email)}", email=email, mail_type=MAIL_TYPE,
            client_id=CLIENT_ID, refresh_token=f"refresh-{_number(email)}.0", server=_machine(email),
            port=143, use_ssl=False,
        )  # fmt: skip
        if added is None:
            return False
        self._ids[email] = added["email_id"]
        return True

    async def settle(self, device: Device) -> None:
        """All servers are kind now: each account must sign in again, unless its grant was ended."""
        loop, self.over, self.side.is_kind = self._node.loop, True, True
        until_s = loop.time() + _LIVES_AGAIN_S
        while (late := self._late(device)) and loop.time() < until_s:
            for email in late:
                await self._check(device, email)
            await asyncio.sleep(5)
        away = self._away()
        for email, account in self.side.accounts.items():
            self._history.secrets.extend(account.current)
            self._history.grants.append((email, account.ended, email not in away))

    def _away(self) -> list[str]:
        healed_s = self._history.healed_s
        accounts = self.side.accounts.values()
        return [one.email for one in accounts if not one.ended and one.signed_in_s < healed_s]

    def _late(self, device: Device) -> list[str]:
        away = self._away()
        told = self.mails(device)
        return [email for email, (there, said) in told.items() if email in away or set(there) - set(said)]

    def mails(self, device: Device) -> dict[str, tuple[list[str], list[str]]]:
        """By account whose grant lives: the mails that there are, and those that were told."""
        return {
            email: (
                [f"{email} mail {number}" for number in range(len(imap.mails))],
                [subject for subject in device.kept.told if subject.startswith(f"{email} ")],
            )
            for email, imap in self._imaps.items()
            if not self.side.accounts[email].ended
        }


def _number(email: str) -> int:
    return int(email.removeprefix("grant-").partition("@")[0])


def _machine(email: str) -> str:
    return f"office-{_number(email)}"


def _text(email: str, number: int) -> bytes:
    head = f"Message-ID: <{number}-{email}>\r\nSubject: {email} mail {number}"
    return f"{head}\r\n\r\n{canary(1)}".encode()
