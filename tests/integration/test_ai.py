"""Answers of models: they go on without their reader, and are there for everyone who comes later."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from huahuo import Huahuo, HuahuoError, Refused
from huahuo.ai import LEASE_S, Keep, answer, resumable, ui_message_stream
from huahuo.errors import OutcomeUnknown
from huahuo.testing.world import AppWorld
from tests.support.drivers.http import Reader, reader
from tests.support.drivers.http import client as http_client
from tests.support.drivers.snippets import run, snippet
from tests.support.patience import WITHIN_S
from tests.support.worlds.everywhere import running

STREAM = "answer/a1"


class Model:
    """Says what the test tells it to say."""

    def __init__(self) -> None:
        self.words: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        self.closed = False
        self.asked = 0

    def say(self, *words: str | Exception | None) -> None:
        for word in words:
            self.words.put_nowait(word)

    async def answer(self) -> AsyncIterator[str]:
        self.asked += 1
        try:
            while (word := await self.words.get()) is not None:
                if isinstance(word, Exception):
                    raise word
                yield word
        finally:
            self.closed = True


@pytest.fixture
def app(tmp_path: Path) -> Huahuo:
    return Huahuo(entities=[answer], data=tmp_path / "data", port=0)


async def test_a_reader_resumes_anywhere_and_a_late_one_gets_the_text_in_one_piece(app: Huahuo) -> None:
    model = Model()
    async with app, http_client(app.url, app.token(42)) as http:
        writing = await resumable(STREAM, model.answer(), user=42)
        async with reader(http, STREAM, after=0) as first:
            await first.until("message", type="answer_began")
            model.say("Once ", "upon ")
            seen = await first.until("message", type="answer_text")
        model.say("a time", None)
        assert await writing == "done"
        async with reader(http, STREAM, last=seen.id or "") as again:
            await again.until("message", type="answer_ended")
            assert seen.data["text"] + text_of(again) == "Once upon a time"
        async with reader(http, STREAM, after="snapshot") as late:
            state = (await late.until("snapshot")).data["state"]
            assert (state["text"], state["status"]) == ("Once upon a time", "done")
        async with http_client(app.url, app.token(43)) as other:
            assert (await other.get(f"/streams/{STREAM}")).status_code == 403


def text_of(events: Reader) -> str:
    """What the reader saw so far."""
    return "".join(said.data.get("text", "") for said in events.seen if said.data)


async def test_a_question_that_is_sent_twice_is_one_answer(app: Huahuo) -> None:
    model, other = Model(), Model()
    async with app:
        first = await resumable(STREAM, model.answer(), public=True)
        again = await resumable(STREAM, other.answer(), public=True)
        assert (first.ours, again.ours, other.asked) == (True, False, 0)
        waiting = asyncio.ensure_future(_ended(again))
        model.say("yes", None)
        assert await waiting == "done"
        assert (await again.state()).text == "yes"


async def _ended(answering: Any) -> Any:
    return await answering


async def test_its_reader_cancels_it_and_the_model_is_stopped(app: Huahuo) -> None:
    model = Model()
    async with app, http_client(app.url, app.token(42)) as http:
        writing = await resumable(STREAM, model.answer(), user=42)
        model.say("Once ")
        async with reader(http, STREAM, after=0) as events:
            await events.until("message", type="answer_text")
        assert (await http.post("/commands/cancel_answer", json={"answer_id": "a1"})).status_code == 200
        assert await writing == "cancelled"
        assert model.closed
        again = await http.post("/commands/cancel_answer", json={"answer_id": "a1"})
        assert again.json()["code"] == "conflict"


async def test_a_model_that_fails_ends_it_and_what_it_said_stays(app: Huahuo) -> None:
    model = Model()
    async with app:
        writing = await resumable(STREAM, model.answer(), user=42)
        model.say("Once ", RuntimeError("canary"))
        assert await writing == "failed"
        state = await writing.state()
        assert (state.text, state.status, state.error) == ("Once ", "failed", "RuntimeError")


async def test_the_log_says_where_a_model_failed_and_not_what_it_said(app: Huahuo) -> None:
    model = Model()
    with capture_logs() as logs:
        async with app:
            writing = await resumable(STREAM, model.answer(), user=42)
            model.say(RuntimeError("canary"))
            assert await writing == "failed"
    [line] = [line for line in logs if line["event"] == "answer_failed"]
    assert (line["stream"], line["error"]) == (STREAM, "RuntimeError")
    assert "in answer" in line["at"]
    assert "canary" not in str(line)


async def test_a_piece_without_text_is_passed_over_and_one_that_is_no_text_is_named(app: Huahuo) -> None:
    async def pieces(*said: Any) -> AsyncIterator[Any]:
        for piece in said:
            yield piece

    with capture_logs() as logs:
        async with app:
            assert (
                await (writing := await resumable(STREAM, pieces(None, "Once", "", None), user=42)) == "done"
            )
            assert (await writing.state()).text == "Once"
            assert await (await resumable("answer/a2", pieces({"content": "Once"}), user=42)) == "failed"
    [line] = [line for line in logs if line["event"] == "answer_failed"]
    assert line["reason"] == "the generator gave dict, and not text"


async def _called() -> str:
    return "Once"


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (lambda: Model().answer, "call the function"),
        (_called, "`await` what you call"),
        (lambda: iter(["Once"]), "take the async client"),
        (lambda: "Once", "take the async client"),
        (lambda: None, "is needed"),
    ],
)
async def test_what_is_no_async_iterator_is_refused_with_what_to_do(
    app: Huahuo, given: Callable[[], Any], hint: str
) -> None:
    async with app:
        with pytest.raises(HuahuoError, match=hint):
            await resumable(STREAM, given(), user=42)
        assert (await app.state(answer, "a1"))[1] == 0, "nothing has begun"


async def test_an_id_that_no_answer_can_have_and_an_application_without_answers_are_refused(
    app: Huahuo, tmp_path: Path
) -> None:
    async with app:
        with pytest.raises(Refused, match="answer_id: no answer can have the id 'a/b'"):
            await resumable("answer/a/b", Model().answer(), user=42)
    async with Huahuo(data=tmp_path / "other", port=0) as other:
        with pytest.raises(Refused, match=r"no entity decides Begin: is its entity in Huahuo"):
            await resumable(STREAM, Model().answer(), app=other, user=42)


async def test_a_stop_leaves_no_error_of_an_answer_that_is_being_written(app: Huahuo) -> None:
    with capture_logs() as logs:
        async with app:
            writing = await resumable(STREAM, Model().answer(), user=42)
    assert await writing == "interrupted"
    assert [line for line in logs if line["event"] == "answer_failed"] == []


async def test_an_answer_that_a_stop_ends_is_at_its_end_for_readers_too(app: Huahuo) -> None:
    async def closing_slowly() -> AsyncIterator[str]:
        try:
            yield "Once"
            await asyncio.Event().wait()
        finally:
            for _ in range(100):
                await asyncio.sleep(0)

    async with app:
        writing = await resumable(STREAM, closing_slowly(), user=42)
        async with contextlib.aclosing(app.follow(STREAM)) as events:
            while (await anext(events))["type"] != "answer_text":
                pass
    assert await writing == "interrupted"
    async with app:
        assert (await writing.state()).status == "interrupted"


async def test_an_answer_is_kept_although_one_keeping_of_it_could_not_be_written(
    app: Huahuo, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, again, model = app.send, asyncio.Event(), Model()
    faults = iter([OutcomeUnknown("the log is busy")])

    async def refused_once(command: Any, **more: Any) -> dict[str, Any]:
        if isinstance(command, Keep):
            for fault in faults:
                raise fault
            again.set()
        return await send(command, **more)

    monkeypatch.setattr("huahuo.ai.LEASE_S", 0.03)
    monkeypatch.setattr(app, "send", refused_once)
    async with asyncio.timeout(WITHIN_S), app:
        writing = await resumable(STREAM, model.answer(), public=True)
        await again.wait()
        model.say(None)
        assert await writing == "done"


def test_an_answer_whose_process_died_is_interrupted_and_nobody_waits_for_ever(tmp_path: Path) -> None:
    world = AppWorld(Huahuo(entities=[answer]), tmp_path / "keys")
    from huahuo.ai import Begin, Write

    world.send(Begin(user=42), answer_id="a1")
    world.send(Write("Once "), answer_id="a1")
    world.crash()
    world.advance(seconds=LEASE_S + 1)
    state, _ = world.state("answer", "a1")
    assert (state.text, state.status) == ("Once ", "interrupted")
    world.close()


@pytest.mark.parametrize("stream", ["answer", "answer/", "user/42", "a1"])
async def test_another_stream_is_refused(app: Huahuo, stream: str) -> None:
    async with app:
        with pytest.raises(HuahuoError, match="no stream answer/<id>"):
            await resumable(stream, Model().answer())


async def test_without_a_running_application_there_is_nowhere_to_write() -> None:
    with pytest.raises(HuahuoError, match="no applications run"):
        await resumable(STREAM, Model().answer())


async def test_the_sdk_reads_what_was_written_as_one_piece_and_then_goes_on(app: Huahuo) -> None:
    model = Model()
    async with app:
        writing = await resumable(STREAM, model.answer(), user=42)
        model.say("Once ")
        async for event in app.follow(STREAM):
            if event["type"] == "answer_text":
                break
        parts = await ui_message_stream(STREAM, app=app, user=42)
        early = [await anext(parts) for _ in range(3)]
        model.say("upon", None)
        await writing
        whole = [*early, *[part async for part in parts]]
        assert [json.loads(part[6:]) for part in whole[:-1]] == [
            {"type": "start", "messageId": STREAM},
            {"type": "text-start", "id": "text"},
            {"type": "text-delta", "id": "text", "delta": "Once "},
            {"type": "text-delta", "id": "text", "delta": "upon"},
            {"type": "text-end", "id": "text"},
            {"type": "finish"},
        ]
        assert whole[-1] == "data: [DONE]\n\n"
        with pytest.raises(Refused, match="not_found"):
            await ui_message_stream(STREAM, app=app, user=43)


@pytest.mark.slow
async def test_the_application_of_the_page_answers_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for block in ("server", "sdk"):
        await run(snippet("docs/ai.md", block), names)
    app = names["app"]
    async with running(app, "asgi", names["api"]) as url, http_client(url) as http:
        stream = (await http.post("/ask", params={"question": "why"})).json()["stream"]
        async with (
            http_client(f"{url}/live", app.token("alice")) as live,
            reader(live, stream, after=0) as events,
        ):
            await events.until("message", type="answer_ended")
            text = "".join(said.data.get("text", "") for said in events.seen if said.data)
            assert text.startswith("You asked: why.")
        question = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "who"}]}
        asked = {"id": "c1", "trigger": "submit-message", "messages": [question]}
        said = await http.post("/api/chat", json=asked)
        assert said.headers["x-vercel-ai-ui-message-stream"] == "v1"
        again = await http.get("/api/chat/c1/stream")
        assert "You asked: who." in again.text
        assert again.text.endswith("data: [DONE]\n\n")
        assert (await http.get("/api/chat/nothing/stream")).status_code == 204
