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


def test_a_password_longer_than_a_short_token_stays_where_it_was_put() -> None:
    given = ("a@outlook.com", "a-long-password-1", UUID, "short-token")
    assert fields(importer.parse("----".join(given), "outlook").accounts[0]) == given


def test_address_and_password_swapped_are_set_right() -> None:
    assert accounts(importer.parse("pw----a@x.com", "imap"))[0][1:] == ("a@x.com", {"password": "pw"})


@pytest.mark.parametrize(
    ("line", "mail_type", "reason"),
    [
        ("a@x.com----canary", "outlook", zh.FOUR_FIELDS.format(2)),
        (f"a@x.com----canary----{UUID}----{TOKEN}----e", "outlook", zh.FOUR_FIELDS.format(5)),
        (f"a@x.com----canary----{UUID}----", "outlook", zh.EMPTY_GRANT),
        ("canary", "imap", zh.TWO_FIELDS),
        ("a@x.com----", "imap", zh.EMPTY_FIELD),
        ("canary----canary", "imap", zh.NO_ADDRESS_THERE),
    ],
)
def test_a_bad_line_is_told_by_number_and_reason_and_never_repeated(
    line: str, mail_type: str, reason: str
) -> None:
    data = importer.parse(line, mail_type)
    assert reasons(data) == [(1, reason)]
    assert not any(part in repr(data) for part in ("canary", TOKEN, "a@x.com"))


@pytest.mark.parametrize(
    "line", ["a@b.example---canary|x", "a@b.example-----canary", "a@b.example---canary,pw"]
)
def test_a_password_behind_a_mistyped_separator_becomes_no_part_of_an_address(line: str) -> None:
    data = importer.parse(line, "imap")
    assert not any("canary" in account.email for account in data.accounts)


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
    ("separator", "inside"),
    [
        *(("----", one) for one in "，；｜—,;|"),
        *(("————", one) for one in "，；｜,;|"),
        *(("，", one) for one in ("；", "｜", "——", ",", ";", "|")),
        *(("；", one) for one in ("，", "｜", "——", ",", ";", "|")),
        *((one, "，") for one in ",;|\t"),
    ],
)
def test_a_separator_of_another_kind_is_part_of_a_password(separator: str, inside: str) -> None:
    line = f"a@x.com{separator}p{inside}w"
    assert accounts(importer.parse(line, "imap")) == [(1, "a@x.com", {"password": f"p{inside}w"})]


@pytest.mark.parametrize(
    ("line", "password"),
    [
        ("a@x.com,p;q@9", "p;q@9"),
        ("a@x.com;p,q@9", "p,q@9"),
        ('a@x.com,"p;q@y.com"', "p;q@y.com"),
        ("a@x.com----p;q,r@y.com", "p;q,r@y.com"),
        ("a@x.com,b@y.com", "b@y.com"),
    ],
)
def test_a_password_may_look_like_another_account(line: str, password: str) -> None:
    assert accounts(importer.parse(line, "imap")) == [(1, "a@x.com", {"password": password})]


def test_secrets_do_not_show_in_the_repr_of_what_was_parsed() -> None:
    assert "canary" not in repr(importer.parse("a@x.com----canary", "imap"))


def test_the_number_of_lines_is_bounded() -> None:
    text = "a@x.com----p\n\nb@x.com----q\n"
    assert importer.parse(text, "imap", lines_max=2).total == 2
    with pytest.raises(importer.TooManyLines):
        importer.parse(text, "imap", lines_max=1)


@pytest.mark.parametrize(
    "text",
    ["", "a", "@x.com", "a@", "a@b@c.com", "a b@x.com", "a@x..com", "a@-x.com", "a@x.com.",
     "a\r\n@x.com", "a@x.com\n", "a\0@x.com", "a" * 65 + "@x.com", "a@" + "x" * 253],
)  # fmt: skip
def test_not_an_address(text: str) -> None:
    assert not importer.is_address(text)


def test_the_first_separator_of_a_line_counts_and_the_others_belong_to_a_password() -> None:
    data = importer.parse('a@x.com----p,w|d\nb@x.com|p,w\nc@x.com,"p,""w"\nd@x.com,p"w', "imap")
    assert [account.secrets["password"].reveal() for account in data.accounts] == [
        "p,w|d",
        "p,w",
        'p,"w',
        'p"w',
    ]


@pytest.mark.parametrize("separator", ["----", "\t", "|", ","])
def test_a_first_line_that_names_columns_says_where_the_fields_are(separator: str) -> None:
    lines = [
        ("mail_type", "Email", "note", "Password"),
        ("imap", "a@x.com", "hello", "pw"),
        ("imap", "b@x.com"),
    ]
    data = importer.parse("\n".join(separator.join(line) for line in lines), "imap")
    assert accounts(data) == [(2, "a@x.com", {"password": "pw"})]
    assert (data.total, reasons(data)) == (2, [(3, zh.EMPTY_FIELD)])


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


def test_a_password_may_begin_with_a_hyphen() -> None:
    assert accounts(importer.parse("a@x.com-----pw", "imap")) == [(1, "a@x.com", {"password": "-pw"})]


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


def test_a_semicolon_in_a_password_behind_another_separator_is_part_of_it() -> None:
    data = importer.parse("a@x.com,p;w\nb@x.com----p;w\nc@x.com|p;w\nd@x.com\tp;w", "imap")
    assert [a[2] for a in accounts(data)] == [{"password": "p;w"}] * 4


@pytest.mark.parametrize(
    "text",
    [
        'email,password,note\r\n"a@qq.com","p----w|x",y\r\n',
        'email;password\n"a@qq.com";"p----w|x"\n',
        "email,password\na@qq.com,p----w|x",
        '"a@qq.com","p----w|x"',
    ],
)
def test_a_password_of_csv_may_have_what_separates_fields_elsewhere(text: str) -> None:
    data = importer.parse(text, "imap")
    assert [one[1:] for one in accounts(data)] == [("a@qq.com", {"password": "p----w|x"})]


@pytest.mark.parametrize("separator", ["----", "|", "\t"])
@pytest.mark.parametrize("password", ["p,w", "p,w@x.example"])
def test_below_names_of_columns_in_csv_a_line_may_still_be_separated_otherwise(
    separator: str, password: str
) -> None:
    data = importer.parse(f"email,password\na@qq.com{separator}{password}", "imap")
    assert accounts(data) == [(2, "a@qq.com", {"password": password})]


def test_what_pages_and_lists_put_around_an_account_is_no_part_of_it() -> None:
    text = (
        "# my mailboxes\n#\n1. a@x.com----pw\n2) b＠x.com----pw\n3、c@x.com----pw\n- d@x.com----pw\n"
        "\u200be@x.com\u200b----p\u200bw\n\xa0f@x.com----pw"
    )
    data = importer.parse(text, "imap")
    assert [(a[1], a[2]["password"]) for a in accounts(data)] == [(f"{n}@x.com", "pw") for n in "abcdef"]
    assert (data.total, data.failures) == (6, ())


def test_an_address_behind_a_hash_is_neither_dropped_nor_guessed() -> None:
    data = importer.parse("#a@x.com----pw", "imap")
    assert (data.accounts, reasons(data)) == ((), [(1, zh.COMMENT_OR_ACCOUNT)])


@pytest.mark.parametrize("line", ["a@x.com--------{}----{}", "a@x.com----{}----{}", "a@x.com||{}|{}"])
def test_a_grant_needs_no_password(line: str) -> None:
    expected = {"client_id": UUID, "refresh_token": TOKEN}
    assert accounts(importer.parse(line.format(UUID, TOKEN), "outlook")) == [(1, "a@x.com", expected)]


@pytest.mark.parametrize(
    "line",
    [
        "a@x.com----pw----mail.y.com----1993",
        "a@x.com----pw----mail.y.com:1993",
        "a@x.com:pw:mail.y.com:1993",
        "email,password,server,port\na@x.com,pw,mail.y.com,1993",
        '{"email": "a@x.com", "password": "pw", "host": "mail.y.com", "port": 1993},',
    ],
)
def test_a_server_and_its_port_are_those_of_the_mailbox(line: str) -> None:
    [account] = importer.parse(line, "imap").accounts
    assert (account.email, account.secrets["password"].reveal()) == ("a@x.com", "pw")
    assert (account.server, account.port, set(account.secrets)) == ("mail.y.com", 1993, {"password"})


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
BESIDE = [
    RECOVERY,
    "+86 138-0013-8000",
    "13800138000",
    "JBSWY3DPEHPK3PXP",
    "jbsw y3dp ehpk 3pxp jbsw y3dp",
    "2026-11-03",
]


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


@pytest.mark.parametrize("separator", ["----", "\t", "|", ",", ":", "————"])
@pytest.mark.parametrize("beside", BESIDE)
def test_what_follows_a_password_and_is_no_client_id_is_left_out(separator: str, beside: str) -> None:
    if separator == ":" and beside != RECOVERY:
        return  # a password may have colons
    assert secrets(separator.join(["a@x.com", "pw", beside])) == {"password": "pw"}


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
