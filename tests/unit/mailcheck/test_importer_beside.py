"""What stands beside an account in a line is no client id: left out where that is certain, else refused."""

import pytest

from huahuo.mailcheck import zh
from huahuo.mailcheck.roster.importer import parse

UUID = "9e5f94bc-e8a4-4e73-b8be-63364c29d753"
TOKEN = "M.C5_BAY.0.U.-" + "Cr7" * 60
RECOVERY = "b@y.com"
BESIDE = [
    RECOVERY,
    "+86 138-0013-8000",
    "13800138000",
    "JBSWY3DPEHPK3PXP",
    "jbsw y3dp ehpk 3pxp jbsw y3dp",
    "2026-11-03",
]


def secrets(line: str, mail_type: str = "gmail") -> dict[str, str]:
    data = parse(line, mail_type)
    assert data.failures == ()
    (account,) = data.accounts
    assert account.email == "a@x.com"
    return {name: secret.reveal() for name, secret in account.secrets.items()}


def reason(line: str, mail_type: str = "gmail") -> str:
    data = parse(line, mail_type)
    assert data.accounts == ()
    return data.failures[0].reason


@pytest.mark.parametrize("separator", ["----", "\t", "|", ",", ":", "————"])
@pytest.mark.parametrize("beside", BESIDE)
def test_what_follows_a_password_and_is_no_client_id_is_left_out(separator: str, beside: str) -> None:
    if separator == ":" and beside != RECOVERY:
        return  # a password may have colons
    assert secrets(separator.join(["a@x.com", "pw", beside])) == {"password": "pw"}


@pytest.mark.parametrize(
    "beside", [(RECOVERY, "13800138000"), ("JBSWY3DPEHPK3PXP", RECOVERY), ("", RECOVERY)]
)
def test_two_such_fields_are_left_out_too(beside: tuple[str, ...]) -> None:
    assert secrets("|".join(["a@x.com", "pw", *beside])) == {"password": "pw"}


@pytest.mark.parametrize("place", [2, 3, 4])
@pytest.mark.parametrize("grant", [(UUID, TOKEN), (TOKEN, UUID)])
@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("mail_type", ["outlook", "gmail"])
def test_a_grant_is_found_beside_it(place: int, grant: tuple[str, str], beside: str, mail_type: str) -> None:
    fields = ["a@x.com", "pw", *grant]
    fields.insert(place, beside)
    expected = {"password": "pw", "client_id": UUID, "refresh_token": TOKEN}
    assert secrets("----".join(fields), mail_type) == expected


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
    ("line", "mail_type"),
    [
        (f"a@x.com----pw----{RECOVERY}----other", "gmail"),
        (f"a@x.com----pw----{RECOVERY}----{TOKEN}", "outlook"),
        (f"a@x.com----pw----13800138000----{TOKEN}", "outlook"),
        (f"a@x.com----pw----client-1----{RECOVERY}", "outlook"),
        (f"email,password,client_id\na@x.com,pw,{RECOVERY}", "gmail"),
    ],
)
def test_what_cannot_be_told_apart_is_refused_and_says_what_is_wrong(line: str, mail_type: str) -> None:
    assert reason(line, mail_type) == zh.NO_CLIENT_ID


def test_outlook_without_a_grant_still_asks_for_four_fields() -> None:
    assert reason(f"a@x.com----pw----{RECOVERY}", "outlook") == zh.FOUR_FIELDS.format(2)


def test_too_many_fields_are_told_as_such() -> None:
    assert reason("a@x.com----pw----x----y----z") == zh.MANY_FIELDS.format(5)


def test_a_client_id_of_another_form_is_one() -> None:
    line = f"a@x.com----pw----123-abc.apps.googleusercontent.com----{TOKEN}"
    assert secrets(line)["client_id"] == "123-abc.apps.googleusercontent.com"


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


def test_four_fields_may_be_separated_by_colons() -> None:
    expected = {"password": "pw", "client_id": UUID, "refresh_token": TOKEN}
    assert secrets(f"a@x.com:pw:{UUID}:{TOKEN}", "outlook") == expected


def test_several_words_behind_an_address_are_no_password() -> None:
    assert reason("a@x.com is my address") == zh.TWO_FIELDS
