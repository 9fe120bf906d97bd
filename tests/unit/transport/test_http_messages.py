"""Requests, answers and refusals over HTTP."""

from http import HTTPStatus

import msgspec
import pytest

from huahuo.transport.http import messages
from huahuo.transport.protocol import incoming
from huahuo.transport.protocol.codes import ErrorCode
from huahuo.transport.protocol.incoming import listed
from huahuo.transport.protocol.strict_json import (
    VALUES_MAX,
    decode_closely,
)
from huahuo.transport.words import en

EVENT = b'{"stream":"group/ops","type":"a","fields":{}}'
PUBLISH = b'{"action":"publish","id":"p","events":[' + EVENT + b"]}"


def parsed(data: str | bytes) -> incoming.Parsed | incoming.Invalid:
    return incoming.parse(data, bytes_max=1 << 20, depth_max=32)


@pytest.mark.parametrize(
    "data",
    [
        PUBLISH.replace(b'{"action"', b'{ "action"'),
        PUBLISH.replace(b'"fields":{}', b'"fields":{"a":[1]}'),
        PUBLISH.replace(b'"fields":{}', b'"fields":{"a":1.50}'),
        PUBLISH.replace(b'"p"', b'"\xff"'),
    ],
)
def test_a_list_in_another_form_is_looked_at_closely(data: bytes) -> None:
    assert listed(data) is None


def test_a_field_whose_name_is_not_shown_is_refused_with_the_reason_and_the_id() -> None:
    refused = incoming.invalid_field("<b>", "it is missing", "7")
    assert (refused.code, refused.details, refused.id) == (ErrorCode.INVALID_FIELD, "it is missing", "7")
    assert "<b>" not in refused.message


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a":1e400}', "a number out of range"),
        ('{"a":NaN}', "NaN or Infinity"),
        ('{"a":["\\ud800"]}', "a lone surrogate"),
        ('{"\\ud800":1}', "a lone surrogate"),
        ('{"a":[1,null]}', ""),
        ('{"a":[1,null],"b":"\\ud83d\\ude00"}', ""),
    ],
)
def test_what_json_does_not_have_is_a_fault(text: str, fault: str) -> None:
    assert fault in decode_closely(text)[1]
    assert bool(fault) == bool(decode_closely(text)[1])


def a_message_of(values: int, value: bytes = b"0") -> bytes:
    """Of so many values: its action, a list, and what is in it."""
    return b'{"action":"count","all":[' + b",".join([value] * (values - 2)) + b"]}"


@pytest.mark.parametrize(
    "data",
    [
        a_message_of(VALUES_MAX + 1),
        a_message_of(VALUES_MAX + 1, b'"a"'),
        a_message_of(VALUES_MAX // 2 + 2, b"{}"),
        a_message_of(VALUES_MAX // 2 + 2, b"[0]"),
        b'{"action":"count",' + b",".join(b'"%d":0' % number for number in range(VALUES_MAX)) + b"}",
        PUBLISH.replace(b"{}", b"{" + b",".join(b'"%d":0' % number for number in range(VALUES_MAX)) + b"}"),
    ],
    ids=["numbers", "texts", "objects", "lists", "keys", "publish"],
)
def test_a_message_of_too_many_values_is_refused_with_the_bound(data: bytes) -> None:
    for form in (data, data.decode()):
        refused = incoming.parse(form, bytes_max=4 << 20, depth_max=32)
        assert isinstance(refused, incoming.Invalid)
        assert refused.code is ErrorCode.BAD_MESSAGE
        assert str(VALUES_MAX) in refused.message


class Place(msgspec.Struct):
    street: str


class Order(msgspec.Struct):
    to: Place
    more: list[Place] = []
    named: dict[str, Place] = {}


def test_the_refusal_of_a_field_that_is_missing_inside_another_has_the_id_of_its_command() -> None:
    asked = parsed(b'{"action":"send","id":"7","to":{}}')
    assert isinstance(asked, incoming.Parsed)
    refused = incoming.convert(asked, Order)
    assert isinstance(refused, incoming.Invalid)
    assert (refused.id, refused.details) == ("7", f"to.street: {en.MISSING}")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"x" * (messages.HEAD_BYTES_MAX + 1), HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        (b"GET / HTTP/1.0\r\n\r\n", None),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED),
        (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED),
        (b"PRI * HTTP/2.0\r\n\r\n", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", HTTPStatus.BAD_REQUEST),
    ],
)
def test_a_head_is_refused_that_is_too_large_or_has_a_bare_end_of_line_or_another_version(
    head: bytes, status: HTTPStatus | None
) -> None:
    assert messages.refusal_of(head) == status
