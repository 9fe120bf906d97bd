"""Rows of FireMail as mails of ours."""

import msgspec
import pytest

from huahuo.mailcheck.classic.queries import adopted_content_of, fetched_of, moment_ms


@pytest.mark.parametrize(
    ("stored", "text", "html"),
    [
        ("plain", "plain", ""),
        (None, "", ""),
        ("<p>hello</p>", "", "<p>hello</p>"),
        ('{"content": "<b>x</b>", "has_html": true}', "", "<b>x</b>"),
        ('{"content": "x < y", "content_type": "text/plain"}', "x < y", ""),
        ("{no json", "{no json", ""),
        ('{"other": 1}', '{"other": 1}', ""),
        ("lone \ud800 surrogate", "lone ? surrogate", ""),
    ],
)
def test_content_comes_in_each_form_that_was_stored(stored: object, text: str, html: str) -> None:
    assert adopted_content_of(stored) == (text, html)


@pytest.mark.parametrize(
    ("said", "ms"),
    [
        ("2026-01-05 10:00:00", 1_767_607_200_000),
        ("2026-01-05 18:00:00+08:00", 1_767_607_200_000),
        ("2026-01-05T10:00:00.250", 1_767_607_200_250),
        ("yesterday", None),
        (None, None),
    ],
)
def test_times_without_a_zone_are_utc(said: object, ms: int | None) -> None:
    assert moment_ms(said) == ms


def test_a_mail_without_a_time_is_of_now_and_keeps_the_names_of_its_attachments() -> None:
    attachment = {"filename": "a.pdf", "content_type": None, "size": None}
    mail = fetched_of({"id": 7, "content": "x", "attachments": [attachment]}, now_ms=5)
    assert (mail.uid, mail.folder, mail.date_ms, mail.has_attachments) == (7, "IMPORTED", 5, True)
    stored = msgspec.json.decode(mail.content)
    assert stored["attachments"] == [{"name": "a.pdf", "type": "", "size": 0}]
