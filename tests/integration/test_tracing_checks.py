"""Checks of mailboxes in the trace of their command, with the stages of the conversation with the server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from huahuo import Huahuo
from huahuo.actors.plugins.calls import Place
from huahuo.mailcheck import mail
from tests.support.closing import log_closed
from tests.support.models.model_imap import ModelImap
from tests.support.patience import WITHIN_S
from tests.support.servers.ports import held_port
from tests.support.spans import Kept, below, kept_spans

PLACE = Place(0xABCDEF, 0x123456, sampled=True)
STAGES = ("imap connect", "imap greet", "imap sign in", "imap inbox", "imap other folders")


@asynccontextmanager
async def imap_server(imap: ModelImap) -> AsyncIterator[int]:
    """The port of the server while the block runs."""
    with held_port() as port:
        serving = asyncio.create_task(imap.serve(port, "127.0.0.1"))
        try:
            yield port
        finally:
            serving.cancel()


def app(data: Path, **settings: Any) -> Huahuo:
    plain = {"mail_allow_private": True, "mail_folders": [], "mail_unread": False}
    given: dict[str, Any] = {"drain_timeout_s": WITHIN_S, **plain, **settings}
    return Huahuo(plugins=[mail()], data=data, port=0, otel=True, **given)


async def added(service: Huahuo, port: int, password: str = "secret") -> int:
    fields: dict[str, Any] = {"email": "alice@example.com", "mail_type": "imap", "password": password}
    where: dict[str, Any] = {"server": "127.0.0.1", "port": port, "use_ssl": False}
    return int((await service.send("add_email", as_user=1, **fields, **where))["email_id"])


async def checked(service: Huahuo, email_id: int, command_id: str = str(PLACE)) -> None:
    await service.send("check_emails", as_user=1, email_ids=[email_id], command_id=command_id)


@pytest.fixture
async def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    return kept_spans(monkeypatch)[0]


async def test_a_check_is_a_span_of_its_command_and_its_stages_and_mails_are_below_it(
    kept: Kept, tmp_path: Path
) -> None:
    imap = ModelImap("alice@example.com", "secret", [b"Subject: hello\r\n\r\nworld"])
    async with imap_server(imap) as port, app(tmp_path) as service:
        await checked(service, await added(service, port))
        check = await kept.one("effect check")
        told = await kept.one("commit mail_received")
    assert check.parent is not None
    assert (check.parent.trace_id, check.parent.span_id) == (PLACE.trace_id, PLACE.span_id)
    assert check.attributes is not None
    assert check.attributes["huahuo.outcome"] == "done"
    assert [span.name for span in kept.spans if span.name.startswith("imap ")] == list(STAGES)
    for stage in STAGES:
        assert below(await kept.one(stage), check), stage
    assert below(told, check), "what the check says is said by this run"


async def test_the_stage_that_failed_tells_the_class_of_the_error_and_nothing_that_a_server_said(
    kept: Kept, tmp_path: Path
) -> None:
    imap = ModelImap("alice@example.com", "secret")
    imap.refuse_login = "canary said by the server"
    async with imap_server(imap) as port, app(tmp_path) as service:
        await checked(service, await added(service, port))
        await kept.one("effect check")
    failed = await kept.one("imap sign in")
    assert failed.attributes is not None
    assert failed.attributes["huahuo.error"] == "CommandRefused"
    assert not any("canary" in span.to_json() for span in kept.spans)


async def test_a_check_that_a_restart_cut_short_goes_on_in_the_same_trace(kept: Kept, tmp_path: Path) -> None:
    imap = ModelImap("alice@example.com", "secret", [b"Subject: hello\r\n\r\nworld"])
    imap.silences = 1
    async with imap_server(imap) as port:
        async with app(tmp_path, drain_timeout_s=0.5) as service:
            await checked(service, await added(service, port))
            await kept.one("imap sign in")
        (cut,) = await kept.until("effect check")
        await log_closed(tmp_path)
        async with app(tmp_path):
            _, whole = await kept.until("effect check", 2)
    for run in (cut, whole):
        assert run.parent is not None
        assert run.parent.span_id == PLACE.span_id


async def test_a_check_of_a_command_that_nobody_traces_has_no_span(kept: Kept, tmp_path: Path) -> None:
    imap = ModelImap("alice@example.com", "secret")
    async with imap_server(imap) as port, app(tmp_path) as service:
        email_id = await added(service, port)
        await checked(service, email_id, "c1")
        async with asyncio.timeout(WITHIN_S):
            async for event in service.follow("user/1", after=0):
                if event["type"] == "email_status_update" and event["status"] == "ok":
                    break
    assert not [span.name for span in kept.spans if not span.name.startswith("command ")]
