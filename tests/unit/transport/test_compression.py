"""The compressed protocol in the session: which messages, for which clients, and how often."""

from types import SimpleNamespace
from typing import Any

import pytest

from huahuo.mailcheck.api.handlers import Handlers
from huahuo.transport.protocol.dialects import (
    COMPRESSED_BYTES_MAX,
    V1,
    V1_ZSTD,
    Compression,
    negotiate,
)
from huahuo.transport.protocol.frames import FrameCache
from tests.support.drivers.session import BINARY, Driver, ModelLog, payload_of, payloads, seqs
from tests.support.worlds.compressed import compression, dictionary, unpacked

ZSTD, PLAIN = "huahuo.v1.zstd", "huahuo.v1"


@pytest.mark.parametrize(
    ("offered", "spoken", "chosen"),
    [
        ([ZSTD, PLAIN], True, ZSTD),
        ([PLAIN, ZSTD], True, PLAIN),
        ([ZSTD], True, ZSTD),
        (["huahuo.v2", ZSTD], True, ZSTD),
        (["chat", PLAIN], True, PLAIN),
        ([ZSTD, PLAIN], False, PLAIN),
        ([PLAIN], False, PLAIN),
    ],
)
def test_the_first_offer_that_is_spoken_is_taken(offered: list[str], spoken: bool, chosen: str) -> None:
    negotiated = negotiate(offered, compression=spoken)
    assert negotiated.subprotocol == chosen
    assert negotiated.dialect is (V1_ZSTD if chosen == ZSTD else V1)


def test_nothing_but_compression_where_it_is_not_spoken_is_an_unknown_version() -> None:
    negotiated = negotiate([ZSTD], compression=False)
    assert (negotiated.subprotocol, negotiated.dialect) == (ZSTD, None)


def driver(**options: object) -> Driver:
    return Driver(dialect=V1_ZSTD, compression=compression(), **options)  # type: ignore[arg-type]


def test_the_authentication_announces_the_dictionary_in_plain_text() -> None:
    session = driver()
    result = session.login()
    number = dictionary().id
    assert result["dictionary"] == {"id": number, "url": f"/dictionary/{number}"}
    assert session.binary == []


def test_events_are_one_binary_frame_that_holds_one_message() -> None:
    session = driver()
    session.login()
    got = session.append("user/42", "first", "second")
    (frame,) = session.binary
    assert frame[0] == BINARY
    assert seqs(got, "user/42") == [1, 2]


def test_messages_of_the_protocol_itself_stay_text() -> None:
    session = driver()
    session.login()
    session.say(action="heartbeat", id="h")
    session.say(action="subscribe", id="s", stream="system", after="head")
    session.say(action="nonsense")
    assert session.binary == []


def test_a_snapshot_is_compressed() -> None:
    session = driver(log=ModelLog())
    session.login(resume={"log": "another", "cursors": {"user/42": 1}})
    assert [unpacked(payload_of(frame))[:18] for frame in session.binary] == [b'{"type":"snapshot"']


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


def test_frames_of_other_dictionaries_are_not_mixed_up() -> None:
    log, frames = ModelLog(), FrameCache(bytes_max=1 << 20, frame_bytes_max=1 << 18)
    log.append("user/42", "the text " * 20)
    events = log.run("user/42", 0, 1).events
    made = {
        frames.run("user/42", 1, events, batch=True, framer=framer).data
        for framer in (compression(), Compression(None), None)
    }
    assert len(made) == 3


def test_the_log_of_all_users_is_never_compressed() -> None:
    session = driver()
    session.login("root")
    session.say(action="subscribe", id="s", stream="log", after="head")
    session.append("user/42", *["the same words"] * 20)
    assert session.binary == []


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


def test_replies_that_hold_mail_are_never_compressed() -> None:
    nothing: Any = SimpleNamespace(executor=None, mailboxes=SimpleNamespace(log=None, ambient=None))
    commands = Handlers(nothing, lines_max=1, lines_a_part=1, jobs=nothing).actions()  # no action is called
    assert {command.action for command in commands if command.compressible} == {"get_all_emails"}


def test_a_thread_beside_the_loop_makes_the_same_frames() -> None:
    one, message = compression(), b'{"type":"event","text":"' + b"the same words " * 50 + b'"}'
    assert one.frame_apart(message) == one.frame_apart(message) == one.frame(message)


def test_a_compression_without_a_dictionary_announces_none() -> None:
    assert Compression(None).announced() is None
