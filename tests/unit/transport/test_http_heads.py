"""What a head of HTTP/1.1 must be, and what the head of an answer says."""

from http import HTTPStatus

import h11
import pytest

from huahuo.transport.http import messages
from huahuo.transport.http.messages import Answer


def _request(*headers: tuple[str, str], method: str = "POST") -> h11.Request:
    return h11.Request(method=method, target="/", headers=[("Host", "a"), *headers])


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


@pytest.mark.parametrize(
    ("headers", "announced", "size"),
    [
        ((), False, 0),
        ((("Content-Length", "0"),), False, 0),
        ((("Content-Length", "7"),), True, 7),
        ((("Content-Length", "00"),), False, 0),
        ((("Transfer-Encoding", "chunked"),), True, None),
        ((("Content-Length", "0"), ("Transfer-Encoding", "chunked")), True, None),
    ],
)
def test_a_body_is_as_large_as_its_head_announces(
    headers: tuple[tuple[str, str], ...], announced: bool, size: int | None
) -> None:
    request = _request(*headers)
    assert (messages.has_body(request), messages.body_bytes(request)) == (announced, size)


def test_an_answer_to_a_head_request_has_a_length_and_no_body() -> None:
    answer = Answer(HTTPStatus.OK, (), b"abc")
    assert messages.without_body(answer, _request(method="HEAD"))
    assert (b"content-length", b"3") in messages.head_of(answer, ends=False).headers


def test_an_answer_whose_status_has_no_body_has_no_length() -> None:
    answer = Answer(HTTPStatus.NO_CONTENT, (), b"")
    assert messages.without_body(answer, None)
    assert b"content-length" not in dict(messages.head_of(answer, ends=False).headers)


def test_an_answer_that_ends_its_connection_says_so() -> None:
    head = messages.head_of(Answer(HTTPStatus.OK, (), b""), ends=True)
    assert (b"connection", b"close") in head.headers
