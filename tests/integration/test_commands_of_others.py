"""I15: every command and query that there is, sent with all that names another user's things.

It is made of the table of actions, so a new one is tried too. `test_isolation` tries streams and cursors.
"""

from base64 import b64encode
from pathlib import Path
from typing import Any, Final

import msgspec
from httpx import AsyncClient
from msgspec import inspect

from tests.support.drivers.http import client as http_client
from tests.support.worlds.storing import Stored, stored

CANARY: Final = "canary7c1f"
MAIL: Final = f"From: x@example.org\r\nSubject: {CANARY} subject\r\n\r\n{CANARY} body\r\n".encode()
OWN_SESSION: Final = frozenset({"sign_out_everywhere"})
"""Ends the caller's own session, and nobody else's."""
CLAIMS: Final = "claim_mailbox"
HIS_OWN: Final = f"{CANARY}@example.com"
"""He has added a mailbox with her address, too, and may claim that."""
ASK_SERVERS: Final = frozenset({"signin_email", "test_login"})
"""Ask servers that the caller names, so they are only sent the numbers of Alice's mailboxes."""


class Alice:
    """User 1, with something of each kind, and a canary in each field."""

    def __init__(self, s: Stored, http: AsyncClient) -> None:
        self._s = s
        self._http = http
        self.names: dict[str, list[Any]] = {}

    async def ask(self, action: str, **fields: Any) -> dict[str, Any]:
        answer = await self._http.post(f"/commands/{action}", json=fields)
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    async def settle(self) -> None:
        """Make the things."""
        address, group = HIS_OWN, f"{CANARY}group"
        added = await self.ask("add_email", email=address, password=f"{CANARY}pw", server="imap.example.com")
        number = added["email_id"]
        tags = [f"{CANARY}tag"]
        await self.ask("label_emails", email_ids=[number], add_tags=tags, note=f"{CANARY}note", group=group)
        mail_id = (await self.ask("add_mail", email_id=number, data=b64encode(MAIL).decode()))["mail_id"]
        hook = await self.ask("add_webhook", url=f"https://{CANARY}.example.com/", types=["email_added"])
        key = await self.ask("add_key", name=CANARY, rights=["read"])
        async with http_client(self._s.app.url, self._s.token(9, admin=True)) as root:
            job = await root.post("/commands/begin_remote_job", json={"name": CANARY, "user": 1})
            assert job.status_code == 200, job.text
        self.names = {
            "email_id": [number],
            "email_ids": [[number], list(range(1, 100))],
            "mail_id": [mail_id],
            "mail_ids": [[mail_id]],
            "webhook_id": [hook["webhook_id"]],
            "key_id": [key["key_id"]],
            "job_id": [job.json()["job_id"]],
            "user_id": [1],
            "owner": [1, "1"],
            "user": [1, "u1", "user/1"],
            "username": ["u1"],
            "email": [address],
            "group": [group],
            "stream": ["user/1", "log", f"mailbox/{number}", f"user/{CANARY}", "user/*", "*", ">"],
            "entity": [f"mailbox/{number}", "user/1"],
            "filter": [{}, {"group": group}, {"email": CANARY}],
            "everybody": [True],
        }

    async def shown(self) -> list[str]:
        """All that Alice sees, and how far her streams are."""
        number, mail_id = self.names["email_id"][0], self.names["mail_id"][0]
        asked: list[tuple[str, dict[str, Any]]] = [
            ("get_all_emails", {}),
            ("get_groups", {}),
            ("list_webhooks", {}),
            ("list_keys", {}),
            ("get_mail_records", {"email_id": number}),
            ("get_mail", {"mail_id": mail_id}),
        ]
        said = [str(await self.ask(action, **fields)) for action, fields in asked]
        streams = ("user/1", "roster/1", f"mailbox/{number}", f"job/{self.names['job_id'][0]}")
        return [*said, *(f"{name} {self._s.app.log.head(name).seq}" for name in streams)]


def tries(params: type, names: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Fields for an action: those it needs, with each that names something of Alice's in each way."""
    known = {name: found[0] for name, found in names.items()}
    if not issubclass(params, msgspec.Struct):
        return [known]
    kind = inspect.type_info(params)
    assert isinstance(kind, inspect.StructType)
    values = {one.encode_name: names.get(one.encode_name, [some(one.type)]) for one in kind.fields}
    needed = {one.encode_name: values[one.encode_name][0] for one in kind.fields if one.required}
    every = {name: found[0] for name, found in values.items()}
    return [
        needed,
        every,
        {**known, **needed},
        *({**needed, name: value} for name, found in values.items() for value in found),
    ]


def some(kind: inspect.Type) -> Any:
    """A value of this type."""
    match kind:
        case inspect.IntType() | inspect.FloatType():
            return 1
        case inspect.BoolType():
            return True
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType():
            return []
        case inspect.DictType() | inspect.StructType():
            return {}
        case inspect.UnionType():
            return some(kind.types[0])
        case inspect.LiteralType():
            return kind.values[0]
        case _:
            return "x"


def without_own_words(text: str, fields: dict[str, Any]) -> str:
    """An answer without what the one who asked has written."""
    for value in fields.values():
        if isinstance(value, str):
            text = text.replace(value, "")
    return text


async def test_no_command_of_another_user_shows_or_changes_anything(tmp_path: Path) -> None:
    async with (
        stored(tmp_path / "data") as s,
        http_client(s.app.url, s.token(1)) as hers,
        http_client(s.app.url, s.token(2)) as his,
    ):
        alice = Alice(s, hers)
        await alice.settle()
        before = await alice.shown()
        assert CANARY in "".join(before), "the canary sings for its owner"
        tried, answered = 0, set[int]()
        for name, action in s.app.registry.commands.items():
            if name in OWN_SESSION:
                continue
            found = tries(action.params, alice.names)
            for fields in found if name not in ASK_SERVERS else [{"email_id": alice.names["email_id"][0]}]:
                answer = await his.post(f"/commands/{name}", json=fields)
                status, text = answer.status_code, answer.text
                tried += 1
                answered.add(status)
                told = without_own_words(text, fields if name != CLAIMS else {"his": HIS_OWN})
                assert CANARY not in told, (name, fields, text)
                assert '"code":"internal"' not in text, (name, fields, text)
                if action.admin:
                    assert status in (400, 403), (name, fields, text)
        assert await alice.shown() == before
    assert tried > 200
    assert {200, 403, 404} <= answered
