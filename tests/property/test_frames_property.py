"""Whatever the events: frames hold exactly them, in order, within the limit."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from huahuo.transport.protocol.frames import FrameCache
from tests.support.drivers.session import ModelLog, payloads

TEXTS = st.lists(st.text(max_size=200), min_size=1, max_size=40)


@given(
    texts=TEXTS, limit=st.integers(200, 3000), stream=st.sampled_from(["user/42", "log"]), batch=st.booleans()
)
def test_frames_hold_the_events_in_order_and_no_batch_exceeds_the_limit(
    texts: list[str], limit: int, stream: str, *, batch: bool
) -> None:
    log = ModelLog()
    for text in texts:
        log.append("user/42", text or "-")
    frames = FrameCache(bytes_max=1 << 16, frame_bytes_max=limit)
    seen: list[tuple[int, str]] = []
    after = 0
    while after < len(texts):
        framed = frames.run(stream, after + 1, log.run(stream, after, 100).events, batch=batch)
        assert framed.count >= 1
        for payload in payloads(framed.data):
            message = msgspec.json.decode(payload)
            if batch:
                assert len(payload) <= limit or len(message["events"]) == 1
                seen += [(message["seq"] + n, event["text"]) for n, event in enumerate(message["events"])]
            else:
                seen.append((message["seq"], message["text"]))
        after += framed.count
    assert seen == [(n + 1, text or "-") for n, text in enumerate(texts)]
