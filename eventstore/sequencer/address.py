"""The address of an ordered log: one URL, taken apart, and how its servers are reached and trusted.

    postgres://user:password@one,two:5433/database?name=huahuo
    nats://user:password@a,b:4223,c?replicas=3&monitor=http://a:8222

Its credentials are kept out of every text. Hosts other than this machine are spoken to over TLS, and their
certificate is verified, unless the URL says `sslmode=disable` (PostgreSQL) or `tls=off` (NATS). So is this
machine if the URL names a certificate, or says tls://, `sslmode=verify-full` or `tls=verify`.

`UserKey` reads a NATS credentials file: the JWT of a user, and the key by which the user signs what the
server sends. The client's own reader needs a further package for this one signature. Servers may lose
power: with `detect_dead_peer` the system reports a silent peer within half a minute.
"""

import asyncio
import base64
import binascii
import contextlib
import ipaddress
import re
import socket
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from huahuo.eventstore.sequencer.port import Unreachable

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


_CREDS_BLOCK = rb"-----BEGIN %s-----\s+([A-Za-z0-9_.=-]+)\s+-+END %s-+"
_JWT = re.compile(_CREDS_BLOCK % (b"NATS USER JWT", b"NATS USER JWT"))
_SEED = re.compile(_CREDS_BLOCK % (b"USER NKEY SEED", b"USER NKEY SEED"))
_USER_SEED = bytes([0b10010_101, 0b00000_000])
"""How the seed of a user begins: in base32 as SU."""
_SEED_BYTES = 32


class BadCreds(ValueError):  # noqa: N818  the condition is the name
    """It is no credentials file. The text has nothing of what the file holds."""


class UserKey:
    """See the module. Its repr holds no secret."""

    __slots__ = ("_key", "jwt")

    def __init__(self, file: bytes) -> None:
        """Take the content of a file apart.

        Raises:
            BadCreds: see there.
        """
        jwt, seed = _JWT.search(file), _SEED.search(file)
        if jwt is None or seed is None:
            raise BadCreds("it needs a block NATS USER JWT and a block USER NKEY SEED, as `nsc` writes them")
        self.jwt = bytearray(jwt[1])
        self._key = Ed25519PrivateKey.from_private_bytes(_seed_in(seed[1]))

    def sign(self, nonce: str) -> bytes:
        """The signature of the server's nonce, as the client sends it."""
        return base64.b64encode(self._key.sign(nonce.encode()))


def _seed_in(text: bytes) -> bytes:
    """The bytes of a seed: two that say whose it is, 32 of the key, two of a checksum."""
    try:
        found = base64.b32decode(text + b"=" * (-len(text) % 8))
    except binascii.Error:
        found = b""
    head, seed, checksum = found[:2], found[2:-2], found[-2:]
    if len(seed) != _SEED_BYTES or binascii.crc_hqx(head + seed, 0) != int.from_bytes(checksum, "little"):
        raise BadCreds("its seed is damaged")
    if head != _USER_SEED:
        raise BadCreds("its seed is not that of a user")
    return seed


class SignInRefused(Unreachable):
    """The log does not let this user in or use its tables, or has no such database.

    An administrator can change that, also while the node runs.
    """


class FileUnusable(Unreachable):
    """A file that the address names can't be used. The text has nothing of what the file holds.

    A running node waits until it can be: somebody may be replacing it.
    """


def tls_context(address: LogAddress) -> ssl.SSLContext:
    """TLS that verifies the server's certificate and name; with our own certificate if the URL names one.

    Raises:
        FileUnusable: see there.
    """
    authority, own, key = _tls_options(address)
    options = address.options
    try:
        context = ssl.create_default_context(cafile=options.get(authority))
    except OSError as error:  # ssl.SSLError is one too
        raise _unusable(authority, error) from None
    if own in options:
        try:
            context.load_cert_chain(options[own], options.get(key), lambda: _locked(key))
        except OSError as error:
            raise _unusable(f"{own}= or {key}" if key in options else own, error) from None
    return context


def password_of(address: LogAddress) -> str:
    """The password: in the URL, or the first line of the file that it names.

    Raises:
        FileUnusable: see there.
    """
    if not (path := address.options.get("password_file")):
        return address.password
    try:
        return Path(path).read_text(encoding="utf-8").partition("\n")[0].removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable("password_file", error) from None


def user_key_of(address: LogAddress) -> UserKey | None:
    """The key of the file that `?creds=` names, None if it names none.

    Raises:
        FileUnusable: see there.
    """
    if not (path := address.options.get("creds")):
        return None
    try:
        return UserKey(Path(path).read_bytes())
    except (OSError, BadCreds) as error:
        raise _unusable("creds", error) from None


def tls_refusal(error: Exception, address: LogAddress, said: str = "") -> str:
    """What ended a connection over TLS that was being opened, and the option that may help.

    `said`: the text of an `error` that is none of TLS. A server that refuses our certificate may say so, or
    close the connection without a word.
    """
    authority, own, _ = _tls_options(address)
    if isinstance(error, ssl.SSLCertVerificationError):
        said = f"certificate verify failed: {error.verify_message.rstrip('.')}"
        if error.verify_code in _UNKNOWN_AUTHORITY:
            said += f" (?{authority}=FILE names the authority of its certificate)"
        return said
    if isinstance(error, ssl.SSLError):
        said = f"TLS failed: {(error.reason or type(error).__name__).lower().replace('_', ' ')}"
    if own in address.options:
        return f"{said} (it may not take the certificate of ?{own}=: its log says why)"
    return f"{said} (?{own}=FILE names our own certificate, if it asks for one)"


_UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21}
"""OpenSSL's numbers for a chain that ends in no authority that is trusted here."""


def _tls_options(address: LogAddress) -> tuple[str, str, str]:
    return ("sslrootcert", "sslcert", "sslkey") if address.kind == "postgres" else ("ca", "cert", "key")


def _locked(option: str) -> str:
    """OpenSSL would ask the terminal for a password, and the service would wait for somebody there."""
    raise FileUnusable(f"{option}= can't be used: its key is locked by a password")


def _unusable(option: str, error: Exception) -> FileUnusable:
    why = error.reason if isinstance(error, ssl.SSLError) else getattr(error, "strerror", None)
    if why is None and isinstance(error, ssl.SSLError):
        why = "it holds no private key"
    if why is None:
        why = str(error) if isinstance(error, BadCreds) else type(error).__name__
    return FileUnusable(f"{option}= can't be used: {why}")


IDLE_S, PROBE_S, PROBES = 5, 3, 3
"""After 5 s of silence the system asks every 3 s, and after three questions the connection has ended."""
UNACKNOWLEDGED_MS = 14_000
TURNS = 3
"""Of the loop, until a transport that was aborted has let go of its socket."""


def detect_dead_peer(connection: Any) -> None:
    """Let the system end `connection` if its peer is gone. Nothing for what is no TCP socket."""
    if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", IDLE_S),
        ("TCP_KEEPINTVL", PROBE_S),
        ("TCP_KEEPCNT", PROBES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_MS),
    ):
        if (option := getattr(socket, name, None)) is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, option, value)


async def let_go(transports: Iterable[asyncio.WriteTransport]) -> None:
    """Close those of sockets at once, whatever waits in them; one that is closed already is left alone."""
    for transport in transports:
        if not transport.is_closing() or transport.get_write_buffer_size():
            transport.abort()
    for _ in range(TURNS):
        await asyncio.sleep(0)
