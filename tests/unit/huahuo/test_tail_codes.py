"""`huahuo tail --codes` prints a line for each code, and nothing else."""

from typing import Any

from huahuo.cli.tail import Codes
from huahuo.transport.client.model import Event


def _event(name: str, **data: Any) -> Event:
    return Event("user/42", 1, name, data)


def test_a_line_has_time_address_and_code() -> None:
    codes = Codes()
    codes.lines(_event("snapshot", state={"emails": [{"id": 7, "email": "a@example.com"}]}))

    lines = codes.lines(
        _event("mail_received", email_id=7, received_time="2026-11-03T10:00:00.000Z", code="482913")
    )

    assert lines == ["2026-11-03T10:00:00.000Z\ta@example.com\t482913"]


def test_a_mail_without_a_code_prints_nothing() -> None:
    assert Codes().lines(_event("mail_received", email_id=7, received_time="", subject="Hello")) == []
