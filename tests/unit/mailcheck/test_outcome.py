"""What each failure of a check means: who must act, whether a retry helps, what the user reads."""

import base64

import pytest

from huahuo.eventstore.model import Secret
from huahuo.mailcheck.servers import faults


def login(text: str, code: str = "", status: str = "NO") -> faults.CommandRefused:
    return faults.CommandRefused("LOGIN", status, code, text)


def refused(text: str, error: str = "invalid_grant") -> faults.GrantRefused:
    return faults.GrantRefused(error, text)


@pytest.mark.parametrize(
    ("kind", "of_kind"),
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
        ("bad_credentials", [faults.BadCredentials("x")]),
        ("web_alert", [login("https://a.example/x Web login required.", "WEBALERT")]),
        ("password_expired", [login("Password expired", "EXPIRED")]),
        ("token_refused", [faults.CommandRefused("AUTHENTICATE", "NO", "EXPIRED", "token expired")]),
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
                faults.CommandRefused("EXAMINE", "BAD", "", "User is authenticated but not connected."),
                faults.ServerBye("Too many connections from your IP"),
            ],
        ),
        (
            "refused",
            [
                login("internal error", "SERVERBUG"),
                login("syntax error", status="BAD"),
                faults.CommandRefused("EXAMINE", "NO", "", "internal error"),
            ],
        ),
        ("dns", [faults.DnsFailed("x")]),
        ("connect", [faults.ConnectFailed("refused")]),
        ("timeout", [faults.ConnectFailed("slow", timed_out=True), faults.TimedOut("LOGIN")]),
        ("tls", [faults.TlsFailed("handshake")]),
        ("bye", [faults.ServerBye("shutting down")]),
        ("lost", [faults.ConnectionLost("gone")]),
        ("protocol", [faults.BrokenProtocol("nonsense")]),
        ("certificate", [faults.TlsFailed("self-signed certificate", certificate=True)]),
        (
            "unsafe_login",
            [faults.CommandRefused("EXAMINE", "NO", "", "EXAMINE Unsafe Login. Please contact us")],
        ),
        (
            "no_folder",
            [
                faults.CommandRefused("EXAMINE", "NO", "NONEXISTENT", "x"),
                faults.CommandRefused("EXAMINE", "NO", "", "Mailbox doesn't exist: X"),
            ],
        ),
        ("host_refused", [faults.HostRefused("private"), faults.HostRefused("port")]),
        ("host_malformed", [faults.HostRefused("malformed")]),
        ("clear_text", [faults.ClearTextRefused("x"), login("encryption needed", "PRIVACYREQUIRED")]),
    ],
)
def test_a_failure_is_of_its_kind(kind: str, of_kind: list[faults.MailFault]) -> None:
    for fault in of_kind:
        outcome = faults.classify(fault)
        assert outcome.kind == kind, fault
        assert (outcome.retry, outcome.status == "need_reauth") == (
            faults.KINDS[kind].retry,
            faults.KINDS[kind].must_sign_in,
        )


def test_a_server_text_is_one_visible_line_of_bounded_length() -> None:
    shown = faults.sanitise(b"a\r\nb\x00c\x1b[31m\xc2\x85d\xe2\x80\xaee\xff" + b"x" * 1000)
    assert shown.startswith("a b c [31m d e\ufffdx")
    assert len(shown) == faults.SERVER_TEXT_CHARS_MAX
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
    shown = faults.sanitise(f"you sent <{echoed}>", [Secret(secret)])
    assert echoed not in shown
    assert secret not in shown
    assert "***" in shown


def test_a_secret_at_the_cut_leaves_no_piece_of_itself() -> None:
    secret = "canary-password"
    for lead in range(faults.SERVER_TEXT_CHARS_MAX - 20, faults.SERVER_TEXT_CHARS_MAX + 1):
        assert "cana" not in faults.sanitise("x" * lead + secret, [Secret(secret)])


@pytest.mark.parametrize(
    "fault",
    [
        faults.TimedOut("no answer"),
        faults.ConnectionLost("ended"),
        faults.DnsFailed("no address"),
        faults.ConnectFailed("refused"),
    ],
)
def test_a_token_endpoint_that_is_away_is_not_called_a_mail_server(fault: faults.MailFault) -> None:
    outcome = faults.classify(fault, over_http=True)
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
        (faults.TlsFailed("expired", certificate=True), "http_certificate"),
        (faults.TlsFailed("handshake failed"), "http_tls"),
        (faults.BrokenProtocol("no HTTP"), "http_protocol"),
    ],
)
def test_a_token_endpoint_that_fails_is_not_called_a_mail_server(fault: faults.MailFault, kind: str) -> None:
    outcome, of_mail = faults.classify(fault, over_http=True), faults.classify(fault)
    assert outcome.kind == kind
    assert (outcome.error_class, outcome.retry) == (of_mail.error_class, of_mail.retry)
    assert "mail server" not in outcome.said
    assert "邮箱服务器" not in outcome.said
