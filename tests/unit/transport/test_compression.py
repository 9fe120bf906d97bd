"""The compressed protocol in the session: which messages, for which clients, and how often."""

from huahuo.transport.protocol.dialects import (
    COMPRESSED_BYTES_MAX,
    Compression,
)
from tests.support.drivers.session import payloads
from tests.support.worlds.compressed import compression

ZSTD, PLAIN = "huahuo.v1.zstd", "huahuo.v1"


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


def test_a_compression_without_a_dictionary_announces_none() -> None:
    assert Compression(None).announced() is None
