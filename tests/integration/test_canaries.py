"""No secret in anything written or given out, in 50 encodings (I16).

No command shows another user's things (I15).
"""

import asyncio
import json
import zipfile
from base64 import b64encode
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from httpx import AsyncClient
from msgspec import inspect
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from huahuo import Huahuo, Refused
from huahuo.actors.plugins.calls import Place
from huahuo.actors.plugins.past import together
from huahuo.app.application import standard
from huahuo.cli import maintenance
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.zstd_frames import Decompressor, Dictionary
from huahuo.mailcheck import mail
from huahuo.storage import copying
from huahuo.transport.client.model import CommandError
from tests.support.drivers.http import client as http_client
from tests.support.models.encodings import encodings_of, found_in
from tests.support.models.model_imap import ModelImap
from tests.support.patience import WITHIN_S
from tests.support.servers.ports import held_port
from tests.support.spans import kept_spans
from tests.support.worlds.storing import Stored, stored

MAILBOX_PASSWORD = "pw-Quux'7c1f\\9e-of-the-mailbox"
REFRESH_TOKEN = "rt-M.R3_BAY.7c1f-of-the-grant!*long"
ACCOUNT_PASSWORD = "ac-Zork 5d2e/of+the=account"
KEY_FILES = {"jwt.secret", "master.key", "checkpoint.key"}
PAST = together([plugin.past for plugin in standard()])


def test_a_search_knows_more_than_fifty_encodings_and_finds_each() -> None:
    forms = encodings_of(MAILBOX_PASSWORD)
    assert len(set(forms.values())) >= 50
    for name, form in forms.items():
        assert name in found_in(b"before" + form + b"after", MAILBOX_PASSWORD)


class Seen:
    """All that was given out or written, by where it was."""

    def __init__(self) -> None:
        self.places: dict[str, bytes] = {}

    def add(self, where: str, what: object) -> None:
        data = what if isinstance(what, bytes) else json.dumps(what, ensure_ascii=False).encode()
        self.places[where] = self.places.get(where, b"") + data

    def add_files(self, where: str, folder: Path) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in KEY_FILES:
                self.add(f"{where}/{path.name}", path.read_bytes())


async def live(s: Stored, seen: Seen) -> list[str]:
    """Use every door that takes a secret, well and badly. Returns the secrets that were made."""
    await s.app.users.add("root", "root-root-root", is_admin=True, principal="test")
    user = await s.app.users.add("alice", ACCOUNT_PASSWORD, principal="test")
    made: list[str] = []
    async with s.client(user.user_id) as alice, s.client(9, admin=True) as root:
        box: dict[str, Any] = {"server": "imap.example.com", "password": MAILBOX_PASSWORD}
        seen.add("replies", await alice.send("add_email", email="a@example.com", **box))
        lines = f"b@outlook.com----{MAILBOX_PASSWORD}----00000000-client----{REFRESH_TOKEN}"
        seen.add("replies", await alice.send("import_emails", data=lines))
        for wrong in (
            {"email": MAILBOX_PASSWORD, **box},
            {"email": "c@example.com", "server": MAILBOX_PASSWORD, "password": [MAILBOX_PASSWORD]},
            {"email": "d@example.com", **box, "port": MAILBOX_PASSWORD},
        ):
            with pytest.raises(CommandError) as refused:
                await alice.send("add_email", **wrong)
            seen.add("refusals", f"{refused.value!r} {refused.value} {refused.value.details}")
        hook = await alice.send("add_webhook", url="https://example.com/hook", types=["email_added"])
        key = await alice.send("add_key", name="bot", rights=["read"], days=1)
        made += [str(hook["secret"]), str(key["key"])]
        for query in ("list_webhooks", "list_keys", "get_all_emails", "get_usage", "export_emails"):
            seen.add("replies", await alice.send(query))
        for query in ("list_users", "get_clients", "get_storage", "get_projections"):
            seen.add("replies", await root.send(query))
        async with root.events("log", "start") as events:
            for _ in range(s.app.log.position):
                seen.add("frames", (await anext(events)).data)
        seen.add("replies", await root.send("audit"))
    await compressed(s, user.user_id, seen)
    async with http_client(s.app.url) as http:
        wrong_login = {"username": "alice", "password": ACCOUNT_PASSWORD + "x"}
        seen.add("answers", (await http.post("/login", json=wrong_login)).content)
        for path in ("/metrics", "/readyz", "/openapi.json", f"/nothing?token={MAILBOX_PASSWORD}"):
            seen.add("answers", (await http.get(path)).content)
    return made


async def compressed(s: Stored, user_id: int, seen: Seen) -> None:
    """Use the compressed protocol: each frame as it came, and unpacked, if it was packed."""
    url = s.app.url.replace("http", "ws", 1)
    async with (
        http_client(s.app.url) as http,
        connect(
            url, subprotocols=[Subprotocol("huahuo.v1.zstd")], compression=None, open_timeout=WITHIN_S
        ) as socket,
    ):
        cursors = {"log": s.app.log.log_id, "cursors": {f"user/{user_id}": 0, "log": 0}}
        said: list[dict[str, Any]] = [
            {"action": "authenticate", "token": s.token(user_id, admin=True), "resume": cursors},
            {
                "action": "add_email", "id": "one", "email": "z@example.com", "server": "imap.example.com",
                "password": MAILBOX_PASSWORD,
            },
            {"action": "add_email", "id": "two", "email": MAILBOX_PASSWORD, "password": [MAILBOX_PASSWORD]},
            {"action": "get_all_emails", "id": "last"},
        ]  # fmt: skip
        unpack, answered = None, ""
        await socket.send(json.dumps(said.pop(0)))
        while answered != "last":
            frame = await socket.recv()
            seen.add("packed frames", frame if isinstance(frame, bytes) else frame.encode())
            if isinstance(frame, bytes):
                assert unpack is not None
                frame = unpack(frame).decode()
                seen.add("unpacked frames", frame)
            message = json.loads(frame)
            if message["type"] == "authentication_result":
                data = (await http.get(message["dictionary"]["url"])).content
                unpack = Decompressor(Dictionary.of(data), output_bytes_max=1 << 25).decompress
                for one in said:
                    await socket.send(json.dumps(one))
            answered = message.get("id", answered)


async def test_no_secret_is_in_anything_that_was_written_or_given_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen, data = Seen(), tmp_path / "data"
    async with stored(data) as s:
        made = await live(s, seen)
        seen.add_files("running", data)
        settings = s.app.settings
    outcome = await copying.run(data, str(tmp_path / "backups"), 1, 60.0, SystemAmbient())
    assert outcome.made
    seen.add_files("backup", tmp_path / "backups")
    await maintenance.export_user(settings, SystemAmbient(), "alice", None, tmp_path / "alice.zip", PAST)
    with zipfile.ZipFile(tmp_path / "alice.zip") as archive:
        for name in archive.namelist():
            seen.add("export", archive.read(name))
    seen.add_files("stopped", data)
    said = capfd.readouterr()
    seen.add("log lines", (said.out + said.err).encode())
    for where in (
        "frames",
        "unpacked frames",
        "replies",
        "export",
        "stopped/log.db",
        "running/log.db-wal",
        "backup/log.db",
    ):
        assert b"a@example.com" in seen.places[where], where  # the search looks where the user's data is
    secrets = (MAILBOX_PASSWORD, REFRESH_TOKEN, ACCOUNT_PASSWORD, *made)
    leaks = {
        f"{where}: {form}"
        for where, what in seen.places.items()
        for secret in secrets
        for form in found_in(what, secret)
    }
    assert leaks == set()


async def test_no_secret_is_in_a_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, _ = kept_spans(monkeypatch)
    imap = ModelImap("a@example.com", "another password")
    imap.refuse_login = f"[AUTHENTICATIONFAILED] {MAILBOX_PASSWORD} is wrong"
    place = str(Place(0xABCDEF, 0x123456, sampled=True))  # of a client that traces
    given: dict[str, Any] = {"mail_allow_private": True, "otel": True, "drain_timeout_s": WITHIN_S}
    with held_port() as port:
        serving = asyncio.create_task(imap.serve(port, "127.0.0.1"))
        async with Huahuo(plugins=[mail()], data=tmp_path, port=0, **given) as service:
            box: dict[str, Any] = {
                "server": "127.0.0.1",
                "port": port,
                "use_ssl": False,
                "password": MAILBOX_PASSWORD,
            }
            made = await service.send("add_email", as_user=1, email="a@example.com", mail_type="imap", **box)
            for wrong in ({"email": MAILBOX_PASSWORD}, {"email": "c@example.com", "port": MAILBOX_PASSWORD}):
                with pytest.raises(Refused):
                    await service.send("add_email", as_user=1, **{**box, **wrong})
            asked: dict[str, Any] = {"email_ids": [made["email_id"]], "command_id": place}
            await service.send("check_emails", as_user=1, **asked)
            check = await kept.one("effect check")
        serving.cancel()
    spans = "\n".join(str(span.to_json()) for span in kept.spans).encode()
    assert check.name.encode() in spans, "the search looks where the check is"
    assert found_in(spans, MAILBOX_PASSWORD) == []


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
