"""The table of providers: where a mailbox's server is, and what an operator may change."""

import pytest

from huahuo.mailcheck.servers.providers import STANDARD, Place, ProviderOptions, Providers, auth_of

endpoint = STANDARD.endpoint


def test_port_and_encryption_follow_from_one_another() -> None:
    assert endpoint("imap", "a@b.c", port=143).use_ssl is False
    assert endpoint("imap", "a@b.c", port=9993).use_ssl is True
    assert endpoint("imap", "a@b.c", use_ssl=False).port == 143


def test_outlook_is_tried_at_each_of_its_hosts_in_turn() -> None:
    places = STANDARD.places("outlook", "outlook.office365.com", 993, use_ssl=True)
    assert [place.host for place in places] == ["outlook.office365.com", "outlook.live.com"]


def test_changed_hosts_hold_for_mailboxes_that_were_added_before() -> None:
    changed = Providers({"outlook": ProviderOptions(hosts=("new.example:1993",), tls="starttls")})
    assert changed.places("outlook", "outlook.office365.com", 993, use_ssl=True) == (
        Place("new.example", 1993, "starttls", listed=True),
    )


def test_type_imap_at_a_host_of_a_provider_belongs_to_it() -> None:
    assert STANDARD.of("imap", "outlook.office365.com", 993).auth == "xoauth2"
    assert STANDARD.of("imap", "mail.example", 993).auth == "login"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (ProviderOptions(tls="none"), "providers.outlook.tls"),
        (ProviderOptions(hosts=("127.0.0.1:143",)), "providers.outlook.hosts"),
        (ProviderOptions(hosts=("localhost",)), "providers.outlook.hosts"),
        (ProviderOptions(hosts=("[::1]:993",)), "providers.outlook.hosts"),
        (ProviderOptions(token_url="http://login.example/token"), "providers.outlook.token_url"),
        (ProviderOptions(graph_url="https://127.0.0.1/v1.0"), "providers.outlook.graph_url"),
        (ProviderOptions(devicecode_url="http://login.example"), "providers.outlook.devicecode_url"),
    ],
)
def test_what_leaves_tls_or_leads_to_this_machine_needs_mail_allow_private(
    options: ProviderOptions, text: str
) -> None:
    with pytest.raises(ValueError, match=f"{text}: .*mail_allow_private"):
        Providers({"outlook": options}, allow_private=False)
    Providers({"outlook": options}, allow_private=True)


@pytest.mark.parametrize(
    "options",
    [
        ProviderOptions(hosts=("mail.example:0",)),
        ProviderOptions(hosts=("mail.example:x",)),
        ProviderOptions(hosts=("0x7f.1:993",)),
        ProviderOptions(token_url="ftp://login.example"),
        ProviderOptions(token_url="https://user:password@login.example"),
        ProviderOptions(connections_max=-1),
    ],
)
def test_an_entry_that_cannot_be_used_is_refused(options: ProviderOptions) -> None:
    with pytest.raises(ValueError, match=r"providers\.outlook\."):
        Providers({"outlook": options})


def test_a_way_to_sign_in_follows_from_provider_and_secrets() -> None:
    outlook, gmail, imap = (STANDARD.of(name) for name in ("outlook", "gmail", "imap"))
    assert auth_of(outlook, password=True, grant=False) is None
    assert auth_of(outlook, password=True, grant=True) == "xoauth2"
    assert auth_of(gmail, password=True, grant=True) == "login"
    assert auth_of(gmail, password=False, grant=True) == "xoauth2"
    assert auth_of(imap, password=False, grant=True) is None
