"""A service with the setting `otel` exports the way of a traced command, to a collector that listens here."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider

from huahuo import Huahuo
from huahuo.actors.plugins.calls import Place, place_in
from huahuo.tracing.sending import sending
from huahuo.transport.client.client import Client
from tests.support.patience import WITHIN_S

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


def test_the_id_that_a_program_sends_is_the_place_of_its_span(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "get_tracer", TracerProvider().get_tracer)
    with sending("place_order") as command_id:
        found = trace.get_current_span().get_span_context()
        place = place_in(command_id)
    assert place == Place(found.trace_id, found.span_id, sampled=True)


def test_without_a_tracer_it_says_what_to_call() -> None:
    with pytest.raises(RuntimeError, match="set_tracer_provider"), sending("place_order"):
        pass
