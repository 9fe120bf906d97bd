"""The table of providers: where a mailbox's server is, and what an operator may change."""

import pytest

from huahuo.mailcheck.servers.providers import STANDARD, ProviderOptions, Providers

endpoint = STANDARD.endpoint


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
