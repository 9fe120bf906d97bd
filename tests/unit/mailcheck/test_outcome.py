"""What each failure of a check means: who must act, whether a retry helps, what the user reads."""

import base64

import pytest

from huahuo.eventstore.model import Secret
from huahuo.mailcheck.servers.faults import (
    KINDS,
    SERVER_TEXT_CHARS_MAX,
    BadCredentials,
    BrokenProtocol,
    ClearTextRefused,
    CommandRefused,
    ConnectFailed,
    ConnectionLost,
    DnsFailed,
    GrantRefused,
    HostRefused,
    MailFault,
    ServerBye,
    TimedOut,
    TlsFailed,
    classify,
    sanitise,
)


def login(text: str, code: str = "", status: str = "NO") -> CommandRefused:
    return CommandRefused("LOGIN", status, code, text)


@pytest.mark.parametrize(
    "fault",
    [
        login("Authentication failed.", "AUTHENTICATIONFAILED"),
        login("LOGIN failed."),
        login("Invalid credentials (Failure)", "AUTHENTICATIONFAILED"),
        login("LOGIN Login error password error"),
        login(
            "Login fail. Account is abnormal, service is not open, password is incorrect, "
            "login frequency limited, or system is busy."
        ),
        login("Please log in via your web browser", "WEBALERT"),
        login("no such user", "AUTHORIZATIONFAILED"),
        login("password expired", "EXPIRED"),
        login("登录失败，请使用授权码"),
        login("Invalid user name", status="BAD"),
        BadCredentials("x"),
    ],
)
def test_a_refused_login_needs_the_user_and_is_not_retried(fault: MailFault) -> None:
    outcome = classify(fault)
    assert (outcome.status, outcome.retry) == ("need_reauth", False)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (login("https://a.example/x Web login required.", "WEBALERT"), "web_alert"),
        (login("Password expired", "EXPIRED"), "password_expired"),
        (CommandRefused("AUTHENTICATE", "NO", "EXPIRED", "token expired"), "token_refused"),
        (GrantRefused("invalid_grant", "AADSTS70000: The provided value is not valid."), "grant_foreign"),
        (
            GrantRefused("invalid_grant", "AADSTS70000: User account is found to be in service abuse mode."),
            "account_locked",
        ),
        (GrantRefused("invalid_grant", "AADSTS700082: expired due to inactivity"), "grant_refused"),
    ],
)
def test_what_needs_another_deed_of_the_user_is_a_kind_of_its_own(fault: MailFault, kind: str) -> None:
    assert (classify(fault).kind, classify(fault).status) == (kind, "need_reauth")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (login("Temporary failure", "UNAVAILABLE"), "throttled"),
        (login("Too many login attempts", "LIMIT"), "throttled"),
        (login("mailbox in use", "INUSE"), "throttled"),
        (login("Too many simultaneous connections. (Failure)"), "throttled"),
        (login("System busy, try again later"), "throttled"),
        (login("登录过于频繁"), "throttled"),
        (CommandRefused("EXAMINE", "BAD", "", "User is authenticated but not connected."), "throttled"),
        (ServerBye("Too many connections from your IP"), "throttled"),
        (login("internal error", "SERVERBUG"), "refused"),
        (login("syntax error", status="BAD"), "refused"),
        (CommandRefused("EXAMINE", "NO", "", "internal error"), "refused"),
        (DnsFailed("x"), "dns"),
        (ConnectFailed("refused"), "connect"),
        (ConnectFailed("slow", timed_out=True), "timeout"),
        (TimedOut("LOGIN"), "timeout"),
        (TlsFailed("handshake"), "tls"),
        (ServerBye("shutting down"), "bye"),
        (ConnectionLost("gone"), "lost"),
        (BrokenProtocol("nonsense"), "protocol"),
    ],
)
def test_trouble_on_the_way_is_an_error_worth_a_retry(fault: MailFault, kind: str) -> None:
    outcome = classify(fault)
    assert (outcome.status, outcome.kind, outcome.retry) == ("error", kind, True)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (TlsFailed("self-signed certificate", certificate=True), "certificate"),
        (
            CommandRefused("EXAMINE", "NO", "", "EXAMINE Unsafe Login. Please contact kefu@188.com"),
            "unsafe_login",
        ),
        (CommandRefused("EXAMINE", "NO", "NONEXISTENT", "x"), "no_folder"),
        (CommandRefused("EXAMINE", "NO", "", "Mailbox doesn't exist: X"), "no_folder"),
        (HostRefused("private"), "host_refused"),
        (HostRefused("port"), "host_refused"),
        (HostRefused("malformed"), "host_malformed"),
        (ClearTextRefused("x"), "clear_text"),
        (login("encryption needed", "PRIVACYREQUIRED"), "clear_text"),
    ],
)
def test_what_somebody_must_change_is_an_error_without_retry(fault: MailFault, kind: str) -> None:
    outcome = classify(fault)
    assert (outcome.status, outcome.kind, outcome.retry) == ("error", kind, False)


def test_every_message_says_it_in_chinese_and_in_english() -> None:
    for message in (kind.message for kind in KINDS.values()):
        chinese, _, english = message.partition(" (")
        assert not chinese.isascii()
        assert english.isascii()
        assert english.endswith(")")


def test_a_server_text_is_one_visible_line_of_bounded_length() -> None:
    shown = sanitise(b"a\r\nb\x00c\x1b[31m\xc2\x85d\xe2\x80\xaee\xff" + b"x" * 1000)
    assert shown.startswith("a b c [31m d e\ufffdx")
    assert len(shown) == SERVER_TEXT_CHARS_MAX
    assert shown.isprintable()


@pytest.mark.parametrize("secret", ["secret", 'q"u\\ote', "密码pässword", "with space", "AUTH a+b/c"])
@pytest.mark.parametrize(
    "spelling",
    [
        lambda s: s,
        lambda s: s.replace("\\", "\\\\").replace('"', '\\"'),
        lambda s: base64.b64encode(f"\0bob@example.com\0{s}".encode()).decode(),
        lambda s: base64.b64encode(f"b\0{s}!".encode()).decode(),
        lambda s: base64.b64encode(f"bo\0{s}".encode()).decode(),
        lambda s: s.encode().hex(),
    ],
)
def test_a_secret_is_struck_out_in_each_spelling(secret: str, spelling: object) -> None:
    assert callable(spelling)
    echoed = spelling(secret)
    shown = sanitise(f"you sent <{echoed}>", [Secret(secret)])
    assert echoed not in shown
    assert secret not in shown
    assert "***" in shown


def test_a_secret_at_the_cut_leaves_no_piece_of_itself() -> None:
    secret = "canary-password"
    for lead in range(SERVER_TEXT_CHARS_MAX - 20, SERVER_TEXT_CHARS_MAX + 1):
        assert "cana" not in sanitise("x" * lead + secret, [Secret(secret)])


@pytest.mark.parametrize(
    "fault",
    [TimedOut("no answer"), ConnectionLost("ended"), DnsFailed("no address"), ConnectFailed("refused")],
)
def test_a_token_endpoint_that_is_away_is_not_called_a_mail_server(fault: MailFault) -> None:
    outcome = classify(fault, over_http=True)
    assert (outcome.kind, outcome.error_class, outcome.status, outcome.retry) == (
        "http_away",
        "network",
        "error",
        True,
    )
    assert "mail server" not in outcome.said


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (TlsFailed("expired", certificate=True), "http_certificate"),
        (TlsFailed("handshake failed"), "http_tls"),
        (BrokenProtocol("no HTTP"), "http_protocol"),
    ],
)
def test_a_token_endpoint_that_fails_is_not_called_a_mail_server(fault: MailFault, kind: str) -> None:
    outcome, of_mail = classify(fault, over_http=True), classify(fault)
    assert outcome.kind == kind
    assert (outcome.error_class, outcome.retry) == (of_mail.error_class, of_mail.retry)
    assert "mail server" not in outcome.said
    assert "邮箱服务器" not in outcome.said


@pytest.mark.parametrize(
    ("error", "text", "kind"),
    [
        (
            "unauthorized_client",
            "AADSTS700016: Application with identifier 'x' was not found",
            "client_refused",
        ),
        ("invalid_client", "AADSTS7000218: The request body must contain: client_secret", "client_refused"),
        ("invalid_grant", "AADSTS700016: Application was not found in the directory", "client_refused"),
        ("invalid_grant", "AADSTS700082: The refresh token has expired due to inactivity", "grant_refused"),
        ("interaction_required", "AADSTS50076: you must use multi-factor authentication", "grant_refused"),
    ],
)
def test_an_application_that_is_not_accepted_is_told_apart_from_a_dead_grant(
    error: str, text: str, kind: str
) -> None:
    outcome = classify(GrantRefused(error, text), over_http=True)
    assert (outcome.kind, outcome.status, outcome.retry) == (kind, "need_reauth", False)
