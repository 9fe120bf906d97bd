"""A traced command, its checks, effects, timers, jobs and publications are in one trace."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET, Raw, Struct
from msgspec.json import encode
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan

from huahuo import After, Command, Decision, Effect, Entity, Event, Every, Huahuo, Service
from huahuo.actors.plugins.calls import Place
from huahuo.actors.timers.timer import Timer, TimerSet, from_row
from huahuo.mailcheck import mail
from huahuo.publisher import Publisher
from huahuo.tracing.sending import sending
from huahuo.transport.client.client import Client
from tests.support.closing import log_closed
from tests.support.models.model_imap import ModelImap
from tests.support.patience import WITHIN_S
from tests.support.servers.ports import held_port
from tests.support.spans import Kept, below, kept_spans

PLACE = Place(0xABCDEF, 0x123456, sampled=True)


class Collector(HTTPServer):
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_args: object) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)

    def of_trace(self) -> dict[str, Any]:
        trace_id = PLACE.trace_id.to_bytes(16, "big")
        return {span.name: span for span in self.spans if span.trace_id == trace_id}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{made.server_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    yield made
    made.shutdown()
    made.server_close()
    thread.join(WITHIN_S)


async def test_the_way_from_a_command_to_the_ack_is_one_trace(tmp_path: Path, collector: Collector) -> None:
    async with asyncio.timeout(WITHIN_S), Huahuo(data=tmp_path, port=0, otel=True) as app:
        assert app.app is not None
        async with Client(app.url, token=app.token(1, "root", admin=True), client="c1") as client:
            fields = {"stream": "user/1", "type": "seen"}
            async with client.events("user/1", after="start") as events:
                acked = app.app.hub.acked("c1", "user/1", 1)
                await client.request("publish", fields, command_id=str(PLACE))
                await client.send("publish", **fields)
                assert (await anext(events)).type == "seen"
                await anext(events)
                await acked
    spans = collector.of_trace()
    assert set(spans) == {"command publish", "commit seen", "delivery user"}
    place = PLACE.span_id.to_bytes(8, "big")
    assert spans["command publish"].parent_span_id == spans["commit seen"].parent_span_id == place
    assert spans["delivery user"].parent_span_id == spans["commit seen"].span_id
    assert spans["commit seen"].end_time_unix_nano <= spans["delivery user"].end_time_unix_nano
    assert len(collector.spans) == 3, "the other command left none"


def test_without_a_tracer_it_says_what_to_call() -> None:
    with pytest.raises(RuntimeError, match="set_tracer_provider"), sending("place_order"):
        pass


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


class Placed(Event, type="tr_placed"): ...


class Packed(Event, type="tr_packed"): ...


class Rang(Event, type="tr_rang"): ...


class PlaceOrder(Command, action="tr_place", creates=True, name="tr_place"): ...


class Tick(Command, action="tr_tick", creates=True):
    every: bool = False


class Ring(Command): ...


class Pack(Effect): ...


class State(Struct, frozen=True):
    rang: int = 0


class World:
    """Spans so far, and an order whose effect waits until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
        kept, self.tracer = kept_spans(monkeypatch)
        self.until, self.one = kept.until, kept.one
        self._data = data
        self.may_go, self.runs = asyncio.Event(), asyncio.Queue[str]()
        self.entity = self._order()

    def app(self, drain_timeout_s: float = WITHIN_S) -> Huahuo:
        return Huahuo(
            entities=[self.entity], data=self._data, port=0, otel=True, drain_timeout_s=drain_timeout_s
        )

    async def closed(self) -> None:
        await log_closed(self._data)

    def _order(self) -> Entity[State]:
        order = Entity("order", State)

        @order.evolve(Placed)
        def placed(state: State, _event: Placed) -> State:
            return state

        @order.evolve(Packed)
        def packed(state: State, _event: Packed) -> State:
            return state

        @order.evolve(Rang)
        def rang(state: State, _event: Rang) -> State:
            return State(state.rang + 1)

        @order.decide(PlaceOrder)
        def place(_state: State, _command: PlaceOrder, _ctx: object) -> Decision:
            return Decision([Placed()], effects=[Pack()])

        @order.decide(Tick)
        def tick(_state: State, command: Tick, _ctx: object) -> Decision:
            return Decision([Placed()], effects=[(Every if command.every else After)(0.01, Ring())])

        @order.decide(Ring)
        def ring(state: State, _command: Ring, _ctx: object) -> Decision:
            return Decision([Rang()], effects=[] if state.rang else [Pack()])

        @order.effect
        async def pack(_job: Pack, run: object) -> None:
            self.runs.put_nowait("begun")
            await self.may_go.wait()
            with self.tracer.start_as_current_span("handler's own"):
                await run.emit(Packed())  # type: ignore[attr-defined]

        return order


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    return World(monkeypatch, tmp_path)


def _of(span: ReadableSpan) -> int:
    return 0 if span.parent is None else span.parent.span_id


async def test_a_run_and_what_it_says_are_in_the_trace_of_the_command(world: World) -> None:
    world.may_go.set()
    async with world.app() as app:
        await app.send("tr_place", as_user=1, command_id=str(PLACE))
        packed = await world.one("commit tr_packed")
        run = await world.one("effect pack")
    assert run.parent is not None
    assert (run.parent.trace_id, run.parent.span_id) == (PLACE.trace_id, PLACE.span_id)
    assert below(packed, run)
    assert below(await world.one("handler's own"), run), "the handler runs inside of its span"
    assert run.attributes is not None
    assert run.attributes["huahuo.outcome"] == "done"


async def test_after_a_restart_the_next_run_is_linked_to_the_one_before(world: World) -> None:
    async with world.app(drain_timeout_s=1.0) as app:
        await app.send("tr_place", as_user=1, command_id=str(PLACE))
        await world.runs.get()
    await world.closed()
    (cut,) = await world.until("effect pack")
    world.may_go.set()
    async with world.app():
        _cut, whole = await world.until("effect pack", 2)
    assert whole.parent is not None
    assert (whole.parent.trace_id, whole.parent.span_id) == (PLACE.trace_id, PLACE.span_id)
    assert cut.context is not None
    assert [link.context.span_id for link in whole.links] == [cut.context.span_id], "its claim carries the id"


async def test_a_timer_and_the_effect_of_its_command_are_in_the_trace(world: World) -> None:
    world.may_go.set()
    async with world.app() as app:
        await app.send("tr_tick", as_user=1, command_id=str(PLACE))
        rang = await world.one("commit tr_rang")
        run = await world.one("effect pack")
    timer = await world.one("timer ring")
    assert timer.parent is not None
    assert timer.parent.span_id == PLACE.span_id
    assert below(rang, timer)
    assert run.context is not None
    assert run.context.trace_id == PLACE.trace_id


async def test_each_firing_of_an_interval_begins_a_trace_with_a_link(world: World) -> None:
    world.may_go.set()
    async with world.app() as app:
        await app.send("tr_tick", as_user=1, command_id=str(PLACE), every=True)
        first, second = (await world.until("timer ring", 2))[:2]
    for span in (first, second):
        assert span.parent is None
        assert [link.context.span_id for link in span.links] == [PLACE.span_id]


@pytest.mark.parametrize("place", ["", str(PLACE)])
def test_a_pending_timer_keeps_its_place_in_its_row_and_in_its_event(place: str) -> None:
    timer = Timer("order/1", "ring", 5, "ring", b"{}", trace=place)
    row = next(iter(timer.puts()))
    assert from_row(row.key, row.value) == timer
    said = TimerSet("", "ring", "ring", Raw(b"{}"), 5, trace=place or UNSET)
    assert said.timer("order/1", 0) == timer
    assert (b"trace" in encode(said)) is bool(place), "a timer that nobody traces costs nothing"


async def test_a_job_is_below_the_span_of_its_program_and_its_reports_below_it(world: World) -> None:
    async with world.app() as app:
        with world.tracer.start_as_current_span("request") as request:
            async with app.job("import", user=1) as job:
                await job.progress(40)
        reports = await world.until("commit job_progress")
        span = await world.one("job import")
    assert _of(span) == request.get_span_context().span_id
    assert reports
    assert all(below(report, span) for report in reports)


async def test_what_the_program_publishes_inside_a_span_is_below_it(world: World) -> None:
    async with world.app() as app:
        with world.tracer.start_as_current_span("request") as request:
            await app.publish("user/1", "tr_seen")
            await app.publish_many([("user/1", "tr_many", {})])
        await app.publish("user/1", "tr_alone")
        for name in ("commit tr_seen", "commit tr_many"):
            assert _of(await world.one(name)) == request.get_span_context().span_id
        assert not await world.until("commit tr_alone", 0), "outside of a span nothing is traced"


async def test_threads_of_a_program_publish_each_in_its_own_trace(world: World, tmp_path: Path) -> None:
    with Service(data=tmp_path / "threads", port=0, otel=True) as service:

        def work(name: str) -> None:
            with world.tracer.start_as_current_span(name):
                service.publish("user/1", f"tr_{name}")
                service.publish_many([("user/1", f"tr_{name}", {})])
                with service.job(name, user=1):
                    pass

        names = ("one", "two", "three")
        await asyncio.gather(*(asyncio.to_thread(work, name) for name in names))
        for name in names:
            thread = (await world.one(name)).get_span_context()
            assert thread is not None
            commits = [*await world.until(f"commit tr_{name}", 2), *await world.until(f"job {name}")]
            assert [_of(commit) for commit in commits] == [thread.span_id] * 3


async def test_another_process_that_traces_publishes_in_its_trace(world: World) -> None:
    async with world.app() as app:
        publisher = Publisher(app.url, app.token(1, "root", admin=True))

        def work() -> None:
            with world.tracer.start_as_current_span("task"):
                publisher.publish("user/1", "tr_seen")
                publisher.publish("user/1", "tr_seen")
            publisher.publish("user/1", "tr_alone")

        await asyncio.to_thread(work)
        assert len(await world.until("commit tr_seen", 2)) == 2, "each call has an id of its own"
        sent = await world.until("send publish", 2)
        assert {span.context.trace_id for span in sent if span.context} == {
            span.context.trace_id for span in await world.until("task") if span.context
        }
        assert not await world.until("commit tr_alone", 0)
