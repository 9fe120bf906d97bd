"""Account lines: `email----password----client_id----refresh_token`, and what stands beside an account.

What is no client id is left out where that is certain, else refused.
"""

import pytest

from huahuo.mailcheck import zh
from huahuo.mailcheck.roster import importer

UUID = "9e5f94bc-e8a4-4e73-b8be-63364c29d753"
TOKEN = "M.C5_BAY.0.U.-" + "Cr7" * 60


def reasons(data: importer.ImportData) -> list[tuple[int, str]]:
    return [(f.line, f.reason) for f in data.failures]


def accounts(data: importer.ImportData) -> list[tuple[int, str, dict[str, str]]]:
    return [(a.line, a.email, {k: s.reveal() for k, s in a.secrets.items()}) for a in data.accounts]


def fields(account: importer.Account) -> tuple[str, ...]:
    return (account.email, *(account.secrets[n].reveal() for n in ("password", "client_id", "refresh_token")))


@pytest.mark.parametrize(
    "line",
    [
        "a@x.com;canary,b@y.com",
        "a@x.com;canary,b@y.com;canary",
        "a@x.com,canary; b@y.com,canary",
        "a@x.com；canary，b@y.com",
        "a@x.com，canary;b@y.com，canary",
    ],
)
def test_several_accounts_in_one_line_are_told_and_none_is_guessed(line: str) -> None:
    data = importer.parse(line, "imap")
    assert (data.accounts, reasons(data)) == ((), [(1, "此行有多个邮箱地址，每行只能有一个邮箱")])
    assert "canary" not in repr(data)


@pytest.mark.parametrize(
    "line",
    [
        f"a@x.com----pw----{UUID}----{TOKEN}----",
        f"a@x.com-----pw-----{UUID}-----{TOKEN}",
        f"a@x.com------pw------{UUID}------{TOKEN}",
        f"a@x.com|pw|{UUID}|{TOKEN}|",
    ],
)
def test_a_separator_at_the_end_and_longer_ones_are_separators(line: str) -> None:
    data = importer.parse(line, "outlook")
    assert [fields(account) for account in data.accounts] == [("a@x.com", "pw", UUID, TOKEN)]


@pytest.mark.parametrize(
    "order", ["{t}----{c}----{p}----{e}", "{p}----{t}----{c}----{e}", "{c}----{t}----{e}----{p}"]
)
def test_a_token_that_ends_with_a_hyphen_keeps_it_before_an_address_or_client_id(order: str) -> None:
    line = order.format(e="a@x.com", p="pw", c=UUID, t=TOKEN + "-")
    assert [fields(account) for account in importer.parse(line, "outlook").accounts] == [
        ("a@x.com", "pw", UUID, TOKEN + "-")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a@x.com;p,w",
        '"a@x.com";"p,w"',
        "email;password\na@x.com;p,w",
        "p,w;a@x.com",
        '\ufeff"Email";"Password"\r\n"a@x.com";"p,w"\r\n',
    ],
)
def test_a_semicolon_separates_where_a_comma_leaves_no_address(text: str) -> None:
    assert [a[1:] for a in accounts(importer.parse(text, "imap"))] == [("a@x.com", {"password": "p,w"})]


def test_an_address_behind_a_hash_is_neither_dropped_nor_guessed() -> None:
    data = importer.parse("#a@x.com----pw", "imap")
    assert (data.accounts, reasons(data)) == ((), [(1, zh.COMMENT_OR_ACCOUNT)])


@pytest.mark.parametrize("line", ["a@x.com--------{}----{}", "a@x.com----{}----{}", "a@x.com||{}|{}"])
def test_a_grant_needs_no_password(line: str) -> None:
    expected = {"client_id": UUID, "refresh_token": TOKEN}
    assert accounts(importer.parse(line.format(UUID, TOKEN), "outlook")) == [(1, "a@x.com", expected)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a@x.com----pw----mail.y.com", zh.NO_CLIENT_ID),
        ("a@x.com----pw----993", zh.NO_CLIENT_ID),
        ("a@x.com----mail.y.com----993----pw", zh.NO_CLIENT_ID),
        ("email,password,port\na@x.com,pw,imap", zh.NO_PORT),
        ('{"email": "a@x.com"}', zh.EMPTY_FIELD),
        ('{"email": ', zh.TWO_FIELDS),
    ],
)
def test_what_may_be_a_server_is_not_guessed(line: str, reason: str) -> None:
    data = importer.parse(line, "imap")
    assert (data.accounts, [failure.reason for failure in data.failures]) == ((), [reason])


def test_an_array_of_objects_may_name_types_and_user_names() -> None:
    text = (
        '[\n{"Email":"a@x.com","password":"p","login":"ann","use_ssl":false},\n'
        f'{{"email":"b@x.com","clientId":"{UUID}","refresh_token":"{TOKEN}","mail_type":"outlook"}}\n]'
    )
    first, second = importer.parse(text, "imap").accounts
    assert (first.secrets["login"].reveal(), first.use_ssl) == ("ann", False)
    assert (second.mail_type, set(second.secrets)) == ("outlook", {"client_id", "refresh_token"})


RECOVERY = "b@y.com"


def secrets(line: str, mail_type: str = "gmail") -> dict[str, str]:
    data = importer.parse(line, mail_type)
    assert data.failures == ()
    (account,) = data.accounts
    assert account.email == "a@x.com"
    return {name: secret.reveal() for name, secret in account.secrets.items()}


def reason(line: str, mail_type: str = "gmail") -> str:
    data = importer.parse(line, mail_type)
    assert data.accounts == ()
    return data.failures[0].reason


@pytest.mark.parametrize("own", ["a@x.com----pw", "pw----a@x.com"])
@pytest.mark.parametrize("beside", ["", f"----{RECOVERY}", "----13800138000"])
def test_an_app_password_takes_the_place_of_the_password(own: str, beside: str) -> None:
    assert secrets(f"{own}----abcd efgh ijkl mnop{beside}") == {"password": "abcd efgh ijkl mnop"}


@pytest.mark.parametrize("password", ["12345678", "2026-11-03", "138-0013-8000"])
@pytest.mark.parametrize("mail_type", ["outlook", "gmail"])
def test_a_password_behind_a_refresh_token_is_kept_whatever_it_looks_like(
    password: str, mail_type: str
) -> None:
    expected = {"password": password, "client_id": UUID, "refresh_token": TOKEN}
    assert secrets(f"a@x.com----{TOKEN}----{UUID}----{password}", mail_type) == expected
    assert secrets(f"a@x.com----{TOKEN}----{password}----{UUID}", mail_type) == expected
    assert reason(f"a@x.com----{TOKEN}----{UUID}----{password}----{RECOVERY}") == zh.MANY_FIELDS.format(5)


@pytest.mark.parametrize(
    ("line", "password"),
    [
        ("a@x.com:pw", "pw"),
        ("a@x.com:p:w", "p:w"),
        ("a@x.com:p:w@rd", "p:w@rd"),
        ("a@x.com pw", "pw"),
        ("a@x.com: pw:b@y.com", "pw"),
        ("a@x.com:pw:b@y.com:13800138000", "pw"),
    ],
)
def test_a_colon_or_a_blank_behind_an_address_separates_where_nothing_else_does(
    line: str, password: str
) -> None:
    assert secrets(line) == {"password": password}
