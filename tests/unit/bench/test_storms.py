"""The requests of `bench storms` are whole, and each one is of its sender."""

import json

import h11
import pytest

from bench.questions.storm_requests import HTTP_REQUESTS, REQUESTS, Sender, http_request, message

SENDER = Sender(user=3, first_id=61, mailboxes=30, connection=1, log="a7c1")


@pytest.mark.parametrize("name", HTTP_REQUESTS)
@pytest.mark.parametrize("number", [0, 1, 5])
def test_a_request_over_http_is_read_to_its_end_and_signs_in_unless_it_is_a_sign_in(
    name: str, number: int
) -> None:
    read = h11.Connection(h11.SERVER)
    read.receive_data(http_request(name, SENDER, number, "the-token"))
    head, last = read.next_event(), read.next_event()
    assert isinstance(head, h11.Request)
    if isinstance(last, h11.Data):
        last = read.next_event()
    assert isinstance(last, h11.EndOfMessage)
    assert read.trailing_data == (b"", False)
    assert ((b"authorization", b"Bearer the-token") in list(head.headers)) is (name != "logins")


@pytest.mark.parametrize("name", REQUESTS)
def test_a_message_has_an_id_and_names_mailboxes_of_its_sender_only(name: str) -> None:
    said = json.loads(message(name, SENDER, 7))
    assert said["id"] == "7"
    assert set(said.get("email_ids", ())) <= set(range(61, 91))


def test_no_request_over_http_has_the_name_of_a_message() -> None:
    assert not HTTP_REQUESTS.keys() & REQUESTS.keys()
