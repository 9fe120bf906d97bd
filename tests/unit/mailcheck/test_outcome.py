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


def refused(text: str, error: str = "invalid_grant") -> GrantRefused:
    return GrantRefused(error, text)


@pytest.mark.parametrize(
    ("kind", "faults"),
    [
        (
            "login_refused",
            [
                login("Authentication failed.", "AUTHENTICATIONFAILED"),
                login("LOGIN failed."),
                login("LOGIN Login error password error"),
                login(
                    "Login fail. Account is abnormal, service is not open, password is incorrect, "
                    "login frequency limited, or system is busy."
                ),
                login("no such user", "AUTHORIZATIONFAILED"),
                login("登录失败，请使用授权码"),
                login("Invalid user name", status="BAD"),
            ],
        ),
        ("bad_credentials", [BadCredentials("x")]),
        ("web_alert", [login("https://a.example/x Web login required.", "WEBALERT")]),
        ("password_expired", [login("Password expired", "EXPIRED")]),
        ("token_refused", [CommandRefused("AUTHENTICATE", "NO", "EXPIRED", "token expired")]),
        ("grant_foreign", [refused("AADSTS70000: The provided value is not valid.")]),
        ("account_locked", [refused("AADSTS70000: User account is found to be in service abuse mode.")]),
        (
            "grant_refused",
            [
                refused("AADSTS700082: expired due to inactivity"),
                refused("AADSTS50076: you must use multi-factor authentication", "interaction_required"),
            ],
        ),
        (
            "client_refused",
            [
                refused("AADSTS700016: Application with identifier 'x' was not found", "unauthorized_client"),
                refused("AADSTS7000218: The request body must contain: client_secret", "invalid_client"),
                refused("AADSTS700016: Application was not found in the directory"),
            ],
        ),
        (
            "throttled",
            [
                login("Temporary failure", "UNAVAILABLE"),
                login("mailbox in use", "INUSE"),
                login("Too many simultaneous connections. (Failure)"),
                login("登录过于频繁"),
                CommandRefused("EXAMINE", "BAD", "", "User is authenticated but not connected."),
                ServerBye("Too many connections from your IP"),
            ],
        ),
        (
            "refused",
            [
                login("internal error", "SERVERBUG"),
                login("syntax error", status="BAD"),
                CommandRefused("EXAMINE", "NO", "", "internal error"),
            ],
        ),
        ("dns", [DnsFailed("x")]),
        ("connect", [ConnectFailed("refused")]),
        ("timeout", [ConnectFailed("slow", timed_out=True), TimedOut("LOGIN")]),
        ("tls", [TlsFailed("handshake")]),
        ("bye", [ServerBye("shutting down")]),
        ("lost", [ConnectionLost("gone")]),
        ("protocol", [BrokenProtocol("nonsense")]),
        ("certificate", [TlsFailed("self-signed certificate", certificate=True)]),
        ("unsafe_login", [CommandRefused("EXAMINE", "NO", "", "EXAMINE Unsafe Login. Please contact us")]),
        (
            "no_folder",
            [
                CommandRefused("EXAMINE", "NO", "NONEXISTENT", "x"),
                CommandRefused("EXAMINE", "NO", "", "Mailbox doesn't exist: X"),
            ],
        ),
        ("host_refused", [HostRefused("private"), HostRefused("port")]),
        ("host_malformed", [HostRefused("malformed")]),
        ("clear_text", [ClearTextRefused("x"), login("encryption needed", "PRIVACYREQUIRED")]),
    ],
)
def test_a_failure_is_of_its_kind(kind: str, faults: list[MailFault]) -> None:
    for fault in faults:
        outcome = classify(fault)
        assert outcome.kind == kind, fault
        assert (outcome.retry, outcome.status == "need_reauth") == (
            KINDS[kind].retry,
            KINDS[kind].must_sign_in,
        )


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
