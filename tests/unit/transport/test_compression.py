"""The compressed protocol in the session: which messages, for which clients, and how often."""

from huahuo.transport.protocol.dialects import (
    COMPRESSED_BYTES_MAX,
    V1_ZSTD,
    Compression,
)
from huahuo.transport.protocol.frames import FrameCache
from tests.support.drivers.session import Driver, ModelLog, payload_of, payloads
from tests.support.worlds.compressed import compression, dictionary

ZSTD, PLAIN = "huahuo.v1.zstd", "huahuo.v1"


def driver(**options: object) -> Driver:
    return Driver(dialect=V1_ZSTD, compression=compression(), **options)  # type: ignore[arg-type]


def test_the_authentication_announces_the_dictionary_in_plain_text() -> None:
    session = driver()
    result = session.login()
    number = dictionary().id
    assert result["dictionary"] == {"id": number, "url": f"/dictionary/{number}"}
    assert session.binary == []


def test_everybody_at_one_place_gets_the_same_bytes_compressed_once() -> None:
    log, frames, framer = ModelLog(), FrameCache(bytes_max=1 << 20, frame_bytes_max=1 << 18), compression()
    for n in range(16):
        log.append("user/42", f"event {n}")
    events = log.run("user/42", 0, 16).events
    first = frames.run("user/42", 1, events, batch=True, framer=framer)
    again = frames.run("user/42", 1, log.run("user/42", 0, 16).events, batch=True, framer=framer)
    assert again.data is first.data
    assert frames.built == 1
    plain = frames.run("user/42", 1, events, batch=True)
    assert framer.before == len(payloads(plain.data)[0])
    assert framer.after == len(payload_of(first.data)) < framer.before


def test_the_length_of_a_frame_tells_nothing_of_the_frames_before_it() -> None:
    told, untold = compression(), compression()
    mail = b'{"type":"mail_received","subject":"%b","sender":"a@example.org","folder":"INBOX"}'
    for guess in range(480_000, 485_000):
        told.frame(mail % b"Your code is 482913")
        guessed = mail % b"Your code is %d" % guess
        assert len(told.frame(guessed)) == len(untold.frame(guessed))


def test_what_is_too_large_to_compress_at_once_stays_text() -> None:
    framer = compression()
    payload = b"x" * (COMPRESSED_BYTES_MAX + 1)
    assert payloads(framer.frame(payload)) == [payload]


def test_a_thread_beside_the_loop_makes_the_same_frames() -> None:
    one, message = compression(), b'{"type":"event","text":"' + b"the same words " * 50 + b'"}'
    assert one.frame_apart(message) == one.frame_apart(message) == one.frame(message)


def test_a_compression_without_a_dictionary_announces_none() -> None:
    assert Compression(None).announced() is None
