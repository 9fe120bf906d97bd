"""Where mail servers are and how one signs in: providers, allowed hosts and ports, proxies on the way. Pure.

`huahuo.toml` may change an entry of the table or add one (`[providers.outlook]`). What a user gives for a
mailbox (`server`, `port`, `use_ssl`) wins over the hosts of its provider. The rules for hosts are those of
every server that users name; here a refusal is a fault of mail. `network` resolves the names. A proxy is
`http://` (CONNECT) or `socks5://`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, cast
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import UNSET, UnsetType

from huahuo.actors.plugins import addresses
from huahuo.actors.plugins.addresses import (
    AddressRefused,
    Reason,
    is_loopback,
    is_private,
    is_public,
    refusal,
)
from huahuo.eventstore.model import Secret
from huahuo.mailcheck.servers.faults import HostRefused

__all__ = ["Reason", "host_name", "is_loopback", "is_private", "is_public", "refusal"]


def host_name(text: str) -> str:
    """See `addresses.host_name`. Raises HostRefused."""
    try:
        return addresses.host_name(text)
    except AddressRefused as refused:
        raise HostRefused(refused.reason) from None


PROXY_CHARS_MAX: Final = 1024
DIRECT: Final = "direct"
"""What a mailbox or group says instead of a proxy to use none, although all others have one."""
_SCHEMES = ("http", "socks5")
_HOW = "write http://HOST:PORT or socks5://HOST:PORT, with USER:PASSWORD@ where it asks for them"


class Proxy(msgspec.Struct, frozen=True):
    """A proxy. `trusted`: the operator named it, so it may be in a private network."""

    scheme: Literal["http", "socks5"]
    host: str
    port: int
    user: str = ""
    password: Secret | None = None
    trusted: bool = False


def parse_proxy(text: str, *, trusted: bool = False) -> Proxy | None:
    """The proxy of a URL, None for an empty text and for `direct`.

    Raises:
        ValueError: it is no such URL. The text of the error holds nothing of it, as it may hold a password.
    """
    given = text.strip()
    if given in ("", DIRECT):
        return None
    if len(given) > PROXY_CHARS_MAX:
        raise ValueError(_HOW)
    try:
        parts = urlsplit(given)
        host, port = host_name(parts.hostname or ""), parts.port
    except (ValueError, HostRefused):
        raise ValueError(_HOW) from None
    if parts.scheme not in _SCHEMES or not port or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(_HOW)
    password = None if parts.password is None else Secret(unquote(parts.password))
    scheme = cast("Literal['http', 'socks5']", parts.scheme)
    return Proxy(scheme, host, port, unquote(parts.username or ""), password, trusted)


IMAPS_PORT: Final = 993
IMAP_PORT: Final = 143
_PORT_MAX: Final = 65_535

type Tls = Literal["implicit", "starttls", "none", "offered"]
"""`offered`: STARTTLS where the server offers it.

Only mailboxes with `use_ssl` false have it, no provider.
"""
type Auth = Literal["login", "plain", "xoauth2", "oauthbearer"]
type Scopes = tuple[tuple[str, ...], ...]

TOKENS: Final = frozenset({"xoauth2", "oauthbearer"})
"""Methods that sign in with an access token."""


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the table. Without `hosts`, the server is `imap.<domain of the address>`."""

    hosts: tuple[str, ...] = ()
    """`host` or `host:port`, tried in turn until one can be reached."""
    tls: Literal["implicit", "starttls", "none"] = "implicit"
    auth: Auth = "login"
    """How a password signs in; with `xoauth2` and `oauthbearer` only a grant does."""
    token_url: tuple[str, ...] = ()
    """Token endpoints, tried in turn until one accepts the grant."""
    devicecode_url: str = ""
    scopes: Scopes = ()
    """Scopes of an access token for IMAP, tried in turn."""
    client_id: str = ""
    """For mailboxes that bring no client id of their own, and for the device code."""
    client_secret: str = ""
    """Only where the provider demands one of applications, as Google does."""
    graph_url: str = ""
    """Microsoft Graph, which is used where IMAP is refused. Empty: never."""
    graph_scopes: Scopes = ()
    idle: bool = True
    connections_max: int = 0
    """IMAP connections at a time; 0: as the setting `checks_per_host` says."""


class ProviderOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[providers.NAME]` of `huahuo.toml`: the keys that differ from the table."""

    hosts: tuple[str, ...] | UnsetType = UNSET
    tls: Literal["implicit", "starttls", "none"] | UnsetType = UNSET
    auth: Auth | UnsetType = UNSET
    token_url: tuple[str, ...] | str | UnsetType = UNSET
    devicecode_url: str | UnsetType = UNSET
    scopes: tuple[tuple[str, ...], ...] | UnsetType = UNSET
    client_id: str | UnsetType = UNSET
    client_secret: str | UnsetType = UNSET
    graph_url: str | UnsetType = UNSET
    graph_scopes: tuple[tuple[str, ...], ...] | UnsetType = UNSET
    idle: bool | UnsetType = UNSET
    connections_max: int | UnsetType = UNSET

    def over(self, provider: Provider) -> Provider:
        """`provider` with these keys."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        changed: dict[str, Any] = {name: value for name, value in given.items() if value is not UNSET}
        if isinstance(changed.get("token_url"), str):
            changed["token_url"] = (changed["token_url"],)
        return msgspec.structs.replace(provider, **changed)


_MICROSOFT = "https://login.microsoftonline.com"
_IMAP_SCOPE = "IMAP.AccessAsUser.All"

BUILT_IN: Final[Mapping[str, Provider]] = MappingProxyType(
    {
        "outlook": Provider(
            hosts=("outlook.office365.com:993", "outlook.live.com:993"),
            auth="xoauth2",
            # The last two answer personal grants that the first refuses.
            token_url=(
                f"{_MICROSOFT}/common/oauth2/v2.0/token",
                f"{_MICROSOFT}/consumers/oauth2/v2.0/token",
                "https://login.live.com/oauth20_token.srf",
            ),
            devicecode_url=f"{_MICROSOFT}/common/oauth2/v2.0/devicecode",
            scopes=(
                (f"https://outlook.office.com/{_IMAP_SCOPE}", "offline_access"),
                (f"https://outlook.office365.com/{_IMAP_SCOPE}", "offline_access"),
                (),
            ),
            graph_url="https://graph.microsoft.com/v1.0",
            graph_scopes=(("https://graph.microsoft.com/.default",),),
        ),
        "gmail": Provider(
            hosts=("imap.gmail.com:993",),
            token_url=("https://oauth2.googleapis.com/token",),
            devicecode_url="https://oauth2.googleapis.com/device/code",
            scopes=((),),
        ),
        "qq": Provider(hosts=("imap.qq.com:993",)),
        "163": Provider(hosts=("imap.163.com:993",)),
        "126": Provider(hosts=("imap.126.com:993",)),
        "imap": Provider(),
    }
)
_BY_DOMAIN = MappingProxyType(
    {
        "gmail.com": "imap.gmail.com",
        "googlemail.com": "imap.gmail.com",
        "qq.com": "imap.qq.com",
        "vip.qq.com": "imap.qq.com",
        "foxmail.com": "imap.qq.com",
        "outlook.com": "outlook.office365.com",
        "hotmail.com": "outlook.office365.com",
        "live.com": "outlook.office365.com",
        "msn.com": "outlook.office365.com",
        "yahoo.com": "imap.mail.yahoo.com",
        "icloud.com": "imap.mail.me.com",
        "me.com": "imap.mail.me.com",
    }
)


class Endpoint(msgspec.Struct, frozen=True):
    """The server of a mailbox as its row shows it. `use_ssl` False: begin in clear text."""

    host: str
    port: int
    use_ssl: bool


class Place(msgspec.Struct, frozen=True):
    """Where to connect, and how. `listed`: the operator's table names the host, no user does."""

    host: str
    port: int
    tls: Tls
    listed: bool = False


class Providers:
    """The table with the operator's changes.

    Raises:
        ValueError: a host or URL cannot be used. The text begins with `providers.`.
    """

    def __init__(
        self, changes: Mapping[str, ProviderOptions] = MappingProxyType({}), *, allow_private: bool = True
    ) -> None:
        table = dict(BUILT_IN)
        for name, options in changes.items():
            table[name] = provider = options.over(table.get(name, Provider()))
            refuse(name, provider, allow_private=allow_private)
        self._table = table
        self._by_host = {
            host: name
            for known in (BUILT_IN, table)
            for name, provider in known.items()
            for host in _hosts(provider)
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Every `mail_type`."""
        return tuple(self._table)

    def may_be_bounded(self, host: str) -> bool:
        """Whether a mailbox at this host may be one of a provider with `connections_max`."""
        return any(
            not provider.hosts or host.lower() in (name for name, _ in _hosts(provider))
            for provider in self._table.values()
            if provider.connections_max
        )

    def of(self, mail_type: str, server: str = "", port: int = IMAPS_PORT) -> Provider:
        """The provider of a mailbox. Type `imap` at a host of another provider belongs to that one."""
        if mail_type == "imap":
            mail_type = self._by_host.get((server.lower(), port), mail_type)
        return self._table.get(mail_type) or Provider()

    def type_of(self, email: str) -> str | None:
        """The provider whose domain the address has, None if it is of no provider."""
        where = self.endpoint("imap", email)
        return self._by_host.get((where.host, where.port))

    def endpoint(
        self,
        mail_type: str,
        email: str,
        *,
        server: str = "",
        port: int | None = None,
        use_ssl: bool | None = None,
    ) -> Endpoint:
        """The server of a mailbox. What the user gave overrides every default.

        A missing `use_ssl` follows the port (143: plain), a missing port follows `use_ssl`. Without a server,
        those of a provider with hosts count for nothing: forms send them with every account.
        """
        given = server.strip()
        listed = _hosts(self.of(mail_type))
        if not given and listed:
            host, number = listed[0]
            return Endpoint(host, number, self.of(mail_type).tls == "implicit")
        if use_ssl is None:
            use_ssl = port != IMAP_PORT
        if port is None:
            port = IMAPS_PORT if use_ssl else IMAP_PORT
        if given:
            return Endpoint(given, port, use_ssl)
        domain = email.rpartition("@")[2].strip().lower()
        host = _BY_DOMAIN.get(domain) or f"imap.{domain}"
        return Endpoint(host, port, use_ssl)

    def places(self, mail_type: str, server: str, port: int, *, use_ssl: bool) -> tuple[Place, ...]:
        """Where to connect for a mailbox, tried in turn.

        A mailbox at one of its provider's hosts may be reached at all of them. So a changed table also holds
        for mailboxes that were added before the change.
        """
        provider = self.of(mail_type, server, port)
        listed = _hosts(provider)
        own = BUILT_IN.get(mail_type, Provider())
        if listed and (server.lower(), port) in {*listed, *_hosts(own)}:
            return tuple(Place(host, number, provider.tls, listed=True) for host, number in listed)
        return (Place(server, port, "implicit" if use_ssl else "offered"),)


def _hosts(provider: Provider) -> list[tuple[str, int]]:
    return [_split(text, provider.tls) for text in provider.hosts]


def _split(text: str, tls: str) -> tuple[str, int]:
    """`host:port` as both. Without a port: that of the way of TLS."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        return text.lower(), IMAPS_PORT if tls == "implicit" else IMAP_PORT
    return host.lower(), int(port) if port.isdecimal() else 0


def refuse(name: str, provider: Provider, *, allow_private: bool) -> None:
    """Raise ValueError if an entry cannot be used, or only with `mail_allow_private`."""
    where = f"providers.{name}"
    private = "{} needs mail_allow_private = true"
    for host, port in _hosts(provider):
        try:
            host_name(host)
        except HostRefused:
            raise ValueError(f"{where}.hosts: {host!r} is no host name or address") from None
        if not 0 < port <= _PORT_MAX:
            raise ValueError(f"{where}.hosts: write host:port, with a port of 1 to {_PORT_MAX}")
        if is_loopback(host) and not allow_private:
            raise ValueError(f"{where}.hosts: " + private.format(f"the loopback host {host}"))
    if provider.tls == "none" and not allow_private:
        raise ValueError(f"{where}.tls: " + private.format('"none"'))
    if provider.connections_max < 0:
        raise ValueError(f"{where}.connections_max: 0 or more")
    urls = [("token_url", url) for url in provider.token_url]
    urls += [("devicecode_url", provider.devicecode_url), ("graph_url", provider.graph_url)]
    for key, url in urls:
        if url:
            _refuse_url(f"{where}.{key}", url, allow_private=allow_private)
    if provider.auth in TOKENS and not (provider.token_url or provider.graph_url):
        raise ValueError(f"{where}.token_url: {provider.auth} needs one")


def _refuse_url(where: str, url: str, *, allow_private: bool) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise ValueError(f"{where}: write https://host/path")
    if (parts.scheme == "http" or is_loopback(host)) and not allow_private:
        raise ValueError(f"{where}: {url} needs mail_allow_private = true")


def auth_of(provider: Provider, *, password: bool, grant: bool) -> Auth | None:
    """How a mailbox with these secrets signs in, None if they do not suffice."""
    if provider.auth in TOKENS:
        return provider.auth if grant else None
    if password:
        return provider.auth
    return "xoauth2" if grant and provider.token_url else None


STANDARD: Final = Providers()
"""The table as it is built in."""
