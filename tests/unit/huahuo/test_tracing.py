"""Spans of traced commands: their order, what is kept of them, and what leaves no trace."""

from collections.abc import Mapping, Sequence

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from huahuo.actors.plugins.calls import Place, place_in
from huahuo.eventstore.ambient import FakeAmbient
from huahuo.eventstore.model import LOG_STREAM, StoredEvent
from huahuo.tracing.spans import Spans

PLACE = Place(0xABC, 0x123, sampled=True)


class Traced:
    def __init__(self, kept_max: int = 100, acks_max: int = 100) -> None:
        self.ambient = FakeAmbient(1)
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        tracer = provider.get_tracer("tests")
        self.spans = Spans(tracer, self.ambient, kept_max=kept_max, acks_max=acks_max)

    def commit(self, seq: int, command_id: str = str(PLACE)) -> None:
        event = StoredEvent(
            position=seq, stream="order/1", seq=seq, type="placed", body=b"{}", version=1,
            ts_ms=self.ambient.now_ms(), entity="", principal="user/42", command_id=command_id, cause=0,
            build="", chain=b"",
        )  # fmt: skip
        commit: Mapping[str, Sequence[StoredEvent]] = {"order/1": [event], LOG_STREAM: [event]}
        self.spans.committed(commit)

    def ack(self, seq: int, client: str = "c1") -> None:
        self.spans.acked("user/42", client, "order/1", seq)

    def seen(self) -> list[tuple[str, int | None]]:
        """The spans so far: name and seq."""
        return [
            (span.name, None if span.attributes is None else int(str(span.attributes.get("huahuo.seq"))))
            for span in self.exporter.get_finished_spans()
        ]

    def delivered(self) -> list[int | None]:
        return [seq for name, seq in self.seen() if name.startswith("delivery")]


def test_an_ack_counts_once_for_each_client_and_for_all_events_before_it() -> None:
    traced = Traced()
    for seq in (1, 2, 3):
        traced.commit(seq)
    traced.ack(2)
    traced.ack(2)
    traced.ack(3)
    traced.ack(3, client="c2")
    assert sorted(traced.delivered(), key=str) == [1, 1, 2, 2, 3, 3]


def test_beyond_its_bound_the_oldest_events_are_forgotten() -> None:
    traced = Traced(kept_max=2)
    for seq in (1, 2, 3):
        traced.commit(seq)
    traced.ack(3)
    assert (traced.spans.waiting, sorted(traced.delivered(), key=str)) == (2, [2, 3])


def test_a_user_that_acks_as_ever_new_clients_leaves_a_bounded_number_of_them() -> None:
    traced = Traced(kept_max=1, acks_max=3)
    traced.commit(1)
    for number in range(9):
        traced.ack(1, client=f"c{number}")
    assert traced.delivered() == [1, 1, 1]
    traced.commit(2)
    traced.ack(2)
    assert traced.delivered() == [1, 1, 1, 2]


def test_clients_of_a_newer_event_make_spans_however_many_acked_the_older_ones() -> None:
    traced = Traced(acks_max=4)
    for seq in (1, 2, 3):
        traced.commit(seq)
        for client in ("c1", "c2"):
            traced.ack(seq, client=client)
    assert traced.delivered() == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (str(PLACE), PLACE),
        ("00-" + "0" * 32 + "-" + "1" * 16 + "-01", None),
        ("00-" + "1" * 32 + "-" + "0" * 16 + "-01", None),
        ("01-" + "1" * 32 + "-" + "1" * 16 + "-01", None),
    ],
)
def test_a_place_is_read_as_the_standard_has_it(text: str, place: Place | None) -> None:
    assert place_in(text) == place
