"""Each broken mail is listed with what could be read of it, and its reading raises nothing."""

import pytest

from huahuo.mailcheck.checks.folder_reader import RawMail, fetched_mail
from huahuo.mailcheck.mime.mail import parsed_mail
from tests.support.models.broken_mails import broken_mails

MAILS = dict(broken_mails())


def test_there_are_more_than_a_hundred_kinds() -> None:
    assert len(MAILS) > 100


@pytest.mark.parametrize("name", MAILS)
def test_a_broken_mail_is_read_without_the_net_below_the_parser(name: str) -> None:
    parsed = parsed_mail(MAILS[name])  # raises what `parse_mail` would catch

    assert parsed.subject == name or not name.startswith("case ")


@pytest.mark.parametrize("headers", [True, False], ids=["headers", "whole"])
@pytest.mark.parametrize("name", MAILS)
def test_a_broken_mail_is_told(name: str, headers: bool) -> None:
    raw = RawMail(1, len(MAILS[name]), None, MAILS[name], truncated=False, headers=headers)

    told = fetched_mail(raw, 1, 1_700_000_000_000, codes=True)

    assert told.uid == 1
    assert told.subject == name or not name.startswith("case ")
