"""`Publisher`: what it refuses before anything is sent, and what an answer means for it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from huahuo import Publisher, Refused
from huahuo.cli.publish import fields_of, publish
from huahuo.errors import ConfigError, Unknown
from huahuo.publisher import (
    Again,
    Done,
    Exchange,
    Refuse,
    bearer,
    body_of,
    key_of,
    listed,
    one,
    outcome_of,
)


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), nested(100_000)])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(Refused, match="a field cannot be written as JSON"):
        body_of({"a": value})


@pytest.mark.parametrize("fields", [[1], "hello", 7, [("a", 1)]])
def test_fields_that_are_no_mapping_are_refused(fields: object) -> None:
    with pytest.raises(Refused, match="fields of parcel_seen: must be a mapping"):
        one("user/42", "parcel_seen", fields)
    assert one("user/42", "parcel_seen", None)["fields"] == {}


@pytest.mark.parametrize("event", [{"stream": "user/42", "type": "x", "fields": {}}, ("user/42", "x"), "abc"])
def test_an_event_of_a_list_that_is_no_triple_is_refused_with_its_place(event: object) -> None:
    with pytest.raises(Refused, match=r"events\[1\]: write \(stream, type, fields\)"):
        listed([("user/42", "x", {}), event])


@pytest.mark.parametrize("command_id", ["", "k" * 65, "a\nb", " a", "ключ"])
def test_an_id_that_no_header_may_have_is_refused(command_id: str) -> None:
    with pytest.raises(Refused, match="command_id: 1 to 64 printable characters"):
        key_of(command_id)
    assert key_of("parcel 7") == "parcel 7"


@pytest.mark.parametrize("token", ["", " \n", "canary\nX: y", "canary ключ", b"canary", None])
def test_what_is_no_token_is_refused_and_not_shown(token: Any) -> None:
    with pytest.raises(Refused, match="token_invalid") as refused:
        bearer(token)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("token", [None, b"a.b.c", 7])
def test_a_token_that_is_neither_text_nor_function_is_refused_when_the_publisher_is_made(token: Any) -> None:
    with pytest.raises(ConfigError, match="token: a text, or a function"):
        Publisher("http://127.0.0.1:8765", token)


def problem(code: str) -> bytes:
    return json.dumps({"type": f"urn:huahuo:{code}", "code": code, "detail": "why"}).encode()


def test_a_reply_is_done_and_a_refusal_is_final() -> None:
    assert outcome_of(200, {}, b'{"type":"success"}') == Done({"type": "success"})
    assert outcome_of(409, {}, problem("sold_out")) == Refuse("sold_out", "why")
    assert outcome_of(403, {}, problem("forbidden")) == Refuse("forbidden", "why")


def test_the_reason_of_a_passing_error_is_told_if_the_service_gave_it() -> None:
    whys = {
        problem("unavailable"): "application/problem+json",
        b"this node applies 5 of 9\n": "text/plain; charset=utf-8",
        b"\x1b[2J": "text/plain",
        b"<html>a proxy</html>": "text/html",
    }
    found = [outcome_of(503, {"content-type": kind}, body) for body, kind in whys.items()]
    said = "the service answered 503"
    assert found == [
        Again(f"{said}: why"),
        Again(f"{said}: this node applies 5 of 9"),
        Again(said),
        Again(said),
    ]


@pytest.mark.parametrize(("status", "body"), [(404, b"<html>"), (200, b"hello"), (200, b"[]"), (302, b"")])
def test_something_else_at_that_address_is_told_apart(status: int, body: bytes) -> None:
    found = outcome_of(status, {}, body)
    assert isinstance(found, Refuse)
    assert found.code == "not_understood"


@pytest.mark.parametrize("url", ["127.0.0.1:8765", "ws://x", "http://", "http://x/?a=1"])
def test_what_is_no_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match="no address of a service"):
        Exchange(url)


def test_fields_of_the_command_line_are_json_or_else_text() -> None:
    assert fields_of(["a=7", "b=true", "c=x=y", 'd="7"', "e="]) == {
        "a": 7, "b": True, "c": "x=y", "d": "7", "e": ""
    }  # fmt: skip
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        fields_of(["lonely"])
    with pytest.raises(ConfigError, match="a: given twice"):
        fields_of(["a=1", "a=2"])
    assert fields_of(["name=NaN", "other=-Infinity"]) == {"name": "NaN", "other": "-Infinity"}
    texts = ["1.10", "1.5", "007", "1e3", " 7", "-0", "9007199254740993", "1" * 400, "[NaN]"]
    for text in texts:  # as numbers, they would come back as something else
        assert fields_of([f"version={text}"]) == {"version": text}
    typed = ["a:=1.5", 'b:=["x", 1.10]', 'c=["x", 7]', 'd={"e": true}', "f=null", "g=-7"]
    assert fields_of(typed) == {
        "a": 1.5, "b": ["x", 1.1], "c": ["x", 7], "d": {"e": True}, "f": None, "g": -7,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="behind := is no JSON"):
        fields_of(["version:=v1"])


@contextmanager
def answering(readyz: int) -> Iterator[str]:
    """A server that takes nothing, and says so at /readyz with this status."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self._say(503, problem("outcome_unknown"))

        def do_GET(self) -> None:
            self._say(readyz, b"the log went back")

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the library's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("readyz", "told"), [(503, True), (200, False)])
def test_a_shell_whose_deadline_passed_is_told_why_the_service_is_not_ready(readyz: int, told: bool) -> None:
    with answering(readyz) as url, pytest.raises(Unknown) as unknown:
        publish("a/1", "b", (), url=url, token="t", own=None, command_id=None, timeout_s=0.2)
    assert ("its /readyz says: the log went back" in str(unknown.value)) == told
