"""The address of an ordered log: one URL, taken apart, with its credentials kept out of every text. Pure.

    postgres://user:password@one,two:5433/database?name=huahuo
    nats://user:password@a,b:4223,c?replicas=3&monitor=http://a:8222

Hosts other than this machine are spoken to over TLS, and their certificate is verified, unless the URL says
`sslmode=disable` (PostgreSQL) or `tls=off` (NATS). So is this machine if the URL names a certificate, or says
tls://, `sslmode=verify-full` or `tls=verify`.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

KINDS = {"postgres": "postgres", "postgresql": "postgres", "nats": "nats", "tls": "nats"}
"""What serves the log, by the URL's scheme."""
PORTS = {"postgres": 5432, "nats": 4222}
HOSTS_MAX = 16
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_OPTIONS = {
    "postgres": {"name", "sslmode", "sslrootcert", "sslcert", "sslkey", "password_file"},
    "nats": {"name", "replicas", "monitor", "tls", "ca", "cert", "key", "creds", "password_file"},
}


_OF_TLS = {"sslrootcert", "sslcert", "sslkey", "ca", "cert", "key"}
"""An address that names one of them means TLS, on this machine too."""


class BadAddress(ValueError):  # noqa: N818  the condition is the name
    """The URL names no ordered log. The text names its options and shows nothing else of it."""


class Host(NamedTuple):
    """One server of the log."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"

    @property
    def local(self) -> bool:
        """Whether it is this machine, so that no other machine can listen."""
        if self.name == "localhost" or self.name.startswith("/"):
            return True
        try:
            return ipaddress.ip_address(self.name).is_loopback
        except ValueError:
            return False


class LogAddress:
    """An ordered log's address. Its text and its repr hold no credential."""

    __slots__ = ("_asks_for_tls", "database", "hosts", "kind", "name", "options", "password", "user")

    def __init__(self, url: str) -> None:
        """Take `url` apart.

        Raises:
            BadAddress: see there.
        """
        # By hand: the standard library takes no list of hosts with an IPv6 address in it.
        scheme, found, rest = url.partition("://")
        if not found or scheme not in KINDS:
            raise BadAddress("the address of the log must begin with postgres:// or nats://")
        rest, _, query = rest.partition("?")
        place, _, path = rest.partition("/")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        except ValueError:
            raise BadAddress("the options behind `?` in the address of the log can't be read") from None
        self.kind = KINDS[scheme]
        self.options = _checked(self.kind, pairs)
        signed_in, _, servers = place.rpartition("@")
        user, _, password = signed_in.partition(":")
        self.user, self.password = unquote(user), unquote(password)
        self.hosts = _hosts(servers, PORTS[self.kind])
        self.database = unquote(path.strip("/")) or "huahuo"
        self.name = self.options.get("name", "huahuo")
        if not _NAME.fullmatch(self.name):
            raise BadAddress("name= takes at most 40 of a-z, 0-9 and _, and begins with a letter")
        if self.kind == "nats" and path.strip("/"):
            raise BadAddress("a nats:// address has no path: several logs on one server differ by ?name=")
        self._asks_for_tls = scheme == "tls" or not _OF_TLS.isdisjoint(self.options)
        if scheme == "tls" and self.options.get("tls") == "off":
            raise BadAddress("tls:// and tls=off contradict each other")

    def __str__(self) -> str:
        database = f"/{self.database}" if self.kind == "postgres" else ""
        return f"{self.kind}://{','.join(map(str, self.hosts))}{database}?name={self.name}"

    def __repr__(self) -> str:
        return f"<LogAddress {self}>"

    @property
    def encrypted(self) -> bool:
        """Whether the connection must be TLS with a verified certificate."""
        mode = self.options.get("sslmode" if self.kind == "postgres" else "tls")
        if mode is not None:
            return mode != ("disable" if self.kind == "postgres" else "off")
        return self._asks_for_tls or not self.local

    @property
    def local(self) -> bool:
        """Whether every server is on this machine."""
        return all(host.local for host in self.hosts)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no text may hold."""
        return (self.password,) if self.password else ()


def _checked(kind: str, pairs: list[tuple[str, str]]) -> Mapping[str, str]:
    options = dict(pairs)
    if len(options) != len(pairs):
        raise BadAddress("the address of the log names an option twice")
    if unknown := sorted(set(options) - _OPTIONS[kind]):
        names = ", ".join(sorted(_OPTIONS[kind]))
        raise BadAddress(f"the address of the log has an unknown option {unknown[0]!r}; there are: {names}")
    if options.get("sslmode", "disable") not in {"disable", "verify-full"}:
        raise BadAddress("sslmode= takes verify-full or disable: the other modes do not prove who answers")
    if options.get("tls", "off") not in {"verify", "off"}:
        raise BadAddress("tls= takes verify or off")
    if options.get("replicas", "1") not in {"1", "3", "5"}:
        raise BadAddress("replicas= takes 1, 3 or 5")
    return options


def _hosts(servers: str, port: int) -> tuple[Host, ...]:
    hosts = []
    for server in servers.split(","):
        try:
            parts = urlsplit(f"//{server}")
            name = unquote(parts.hostname or "")
            if not name:
                raise BadAddress("the address of the log names no host")
            hosts.append(Host(name, parts.port or port))
        except ValueError as error:
            if isinstance(error, BadAddress):
                raise
            raise BadAddress("a host or port in the address of the log can't be read") from None
    if len(hosts) > HOSTS_MAX:
        raise BadAddress(f"the address of the log names more than {HOSTS_MAX} hosts")
    return tuple(hosts)
