"""I15: two users on one server; no byte of one reaches the other, live, on resume, in snapshots or errors."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.support.patience import WITHIN_S
from tests.support.servers.dovecot import dovecot
from tests.support.servers.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ALICE, BOB = (1, "alice"), (2, "bob")
CANARY = "canary-of-"
PASSWORD = "canary-secret-of-"


class Wire:
    """A socket that keeps every byte it was sent."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.bytes = b""

    async def say(self, **message: Any) -> None:
        await self.ws.send(msgspec.json.encode(message).decode())

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        while True:
            data = await self.ws.recv()
            assert isinstance(data, str)
            self.bytes += data.encode()
            message: dict[str, Any] = msgspec.json.decode(data)
            if message["type"] == kind and all(message.get(k) == v for k, v in fields.items()):
                return message

    async def ask(self, action: str, **fields: Any) -> dict[str, Any]:
        """The reply, whatever its type: by its id."""
        await self.say(action=action, id=f"q-{action}-{len(self.bytes)}", **fields)
        while True:
            data = await self.ws.recv()
            assert isinstance(data, str)
            self.bytes += data.encode()
            message: dict[str, Any] = msgspec.json.decode(data)
            if str(message.get("id", "")).startswith(f"q-{action}-"):
                return message


def dial(server: Serving) -> connect:
    return connect(
        server.url.replace("http", "ws"),
        subprotocols=[Subprotocol("huahuo.v1")],
        compression=None,
        max_size=None,
        open_timeout=WITHIN_S,
    )


async def own_life(wire: Wire, server: Serving, user: tuple[int, str], mail_port: int) -> dict[str, Any]:
    """A user signs in, adds a mailbox with canaries in every field, checks it and reads a mail."""
    number, name = user
    await wire.say(action="authenticate", token=server.token(number, name), client=f"{CANARY}{name}")
    await wire.until("authentication_result", success=True)
    added = await wire.ask(
        "add_email",
        email=f"{CANARY}{name}@example.com",
        password=PASSWORD + name,
        mail_type="imap",
        server="127.0.0.1",
        port=mail_port,
        use_ssl=False,
    )
    await wire.ask("check_emails", email_ids=[added["email_id"]])
    ended = asyncio.timeout(WITHIN_S)
    async with ended:
        while b'"status":"ok"' not in wire.bytes:
            await wire.until("events")
    records = await wire.ask("get_mail_records", email_id=added["email_id"])
    await wire.ask("get_mail", mail_id=records["data"][0]["mail_id"])
    return {"email_id": added["email_id"], "mail_id": records["data"][0]["mail_id"]}


async def pry(
    wire: Wire, server: Serving, other: tuple[int, str], ids: dict[str, Any]
) -> list[dict[str, Any]]:
    """Everything a user may try to get at another one's data."""
    stream = f"user/{other[0]}"
    answers = [
        await wire.ask("subscribe", stream=stream, after="start"),
        await wire.ask("subscribe", stream=stream, after="snapshot"),
        await wire.ask("subscribe", stream="log", after="start"),
        await wire.ask("subscribe", stream=f"mailbox/{ids['email_id']}", after="start"),
        await wire.ask("subscribe", stream="auth", after="start"),
        await wire.ask("get_mail", mail_id=ids["mail_id"]),
        await wire.ask("get_mail_records", email_id=ids["email_id"]),
        await wire.ask("check_emails", email_ids=[ids["email_id"]]),
        await wire.ask("cancel_check", email_ids=[ids["email_id"]]),
        await wire.ask("delete_emails", email_ids=[ids["email_id"]]),
        await wire.ask("update_email", email_id=ids["email_id"], server="127.0.0.2"),
        await wire.ask("publish", stream=stream, type="x"),
        await wire.ask("revoke", user_id=other[0]),
        await wire.ask("get_all_emails"),
    ]
    async with dial(server) as again:  # resume with the other one's cursors
        second = Wire(again)
        await second.say(
            action="authenticate",
            token=server.token(2, "bob"),
            resume={"log": None, "cursors": {stream: 0, "log": 0}},
        )
        result = await second.until("authentication_result", success=True)
        answers.append(result)
        answers.append(await second.ask("heartbeat"))
        wire.bytes += second.bytes
    return answers


async def two_users(server: Serving, mail_port: int) -> tuple[Wire, Wire, list[dict[str, Any]]]:
    async with dial(server) as one, dial(server) as other:
        alice, bob = Wire(one), Wire(other)
        ids = await own_life(alice, server, ALICE, mail_port)
        await own_life(bob, server, BOB, mail_port)
        answers = await pry(bob, server, ALICE, ids)
        await alice.ask("heartbeat")
        return alice, bob, answers


async def test_no_byte_of_one_user_reaches_the_other(tmp_path: Path) -> None:
    with dovecot() as mail, serving(tmp_path / "data") as server:
        for _, name in (ALICE, BOB):
            mail.add_user(f"{CANARY}{name}@example.com", PASSWORD + name)
            mail.add_mail(
                f"{CANARY}{name}@example.com",
                f"Subject: {CANARY}{name}\r\n\r\n{CANARY}{name}".encode(),
                password=PASSWORD + name,
            )
        alice, bob, answers = await two_users(server, mail.port)
        assert f"{CANARY}alice".encode() in alice.bytes, "the canary sings for its owner"
        assert b"alice" not in bob.bytes
        assert b"bob" not in alice.bytes
        outcomes = [answer.get("outcome") for answer in answers[:5]]
        assert outcomes == ["denied"] * 5
        codes = [answer.get("code") for answer in answers[5:13]]
        assert codes[0] == codes[1] == "not_found"
        assert codes[6:8] == ["forbidden", "forbidden"]
        assert answers[14]["streams"]["user/1"]["outcome"] == "denied"
        assert answers[14]["streams"]["log"]["outcome"] == "denied"

        for secret in (PASSWORD + "alice", PASSWORD + "bob"):
            assert secret.encode() not in alice.bytes + bob.bytes + server.log().encode()
            server.stop()
            for path in (tmp_path / "data").iterdir():
                assert secret.encode() not in path.read_bytes(), path.name
