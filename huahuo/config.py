"""Settings: defaults < `huahuo.toml` < `HUAHUO_*` environment < flags. Pure but for reading a file.

One table (`Settings`) is the single owner of every setting's name, unit, default and meaning; the
documentation's table and `huahuo doctor` are made from it.
"""

import ipaddress
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import msgspec

from huahuo.errors import ConfigError

PREFIX = "HUAHUO_"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting. The environment's name of a field is `HUAHUO_` and the field in capitals."""

    data: Path = Path("huahuo-data")
    host: str = "127.0.0.1"
    port: int = 8765
    jwt_secret: str = ""
    master_key: str = ""
    origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    connections_per_ip: int = 64
    connections_per_user: int = 32
    messages_per_s: int = 100
    message_bytes_max: int = 1 << 20
    subscriptions_max: int = 256
    window: int = 512
    heartbeat_s: float = 30.0
    auth_timeout_s: float = 10.0
    ack_timeout_s: float = 60.0
    drain_timeout_s: float = 10.0
    http_requests_per_s: int = 50
    unauthenticated_max: int = 12_288
    unauthenticated_per_ip: int = 256
    mail_allow_private: bool = False
    mail_ca_file: str = ""
    checks_at_once: int = 64
    checks_per_host: int = 8
    mail_timeout_s: float = 30.0
    mail_bytes_max: int = 25 << 20
    mailboxes_per_user: int = 100_000
    entities_resident: int = 100_000
    entity_idle_s: float = 300.0
    tail_events_max: int = 65_536
    tail_bytes_max: int = 64 << 20
    dictionary: str = ""
    log_level: str = "info"
    log_json: bool = False

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name not in SECRETS)
        return f"Settings({', '.join(shown)})"


SECRETS = frozenset({"jwt_secret", "master_key"})
"""Fields whose values never appear in output."""

MEANING: Mapping[str, str] = {
    "data": "directory of the log and its keys; one process per directory",
    "host": "address to listen on; use a TLS proxy in front of a public one",
    "port": "TCP port; 0 takes a free one",
    "jwt_secret": "HS256 key of the tokens, at least 32 bytes; made at the first start where unset",
    "master_key": "64 hex digits that wrap the mailboxes' data keys; made at the first start where unset",
    "origins": "browser origins accepted beside the server's own host name",
    "trusted_proxies": "addresses or networks whose X-Forwarded-For counts",
    "connections_per_ip": "WebSocket connections per client address; 0 = no limit",
    "connections_per_user": "WebSocket connections per user; 0 = no limit",
    "messages_per_s": "messages per second and connection, burst twice that; 0 = no limit",
    "message_bytes_max": "largest client message, bytes",
    "subscriptions_max": "streams per connection",
    "window": "un-acked events per connection where the client asks for nothing else",
    "heartbeat_s": "seconds between pings; a client silent for two is closed",
    "auth_timeout_s": "seconds a connection may stay unauthenticated",
    "ack_timeout_s": "seconds without an ack while events are outstanding",
    "drain_timeout_s": "seconds a stop may take",
    "http_requests_per_s": "plain HTTP requests per second and address, burst four times that; 0 = no limit",
    "unauthenticated_max": "sockets not yet authenticated; one more replaces the oldest of its address",
    "unauthenticated_per_ip": "the same per client address; 0 = no limit",
    "mail_allow_private": "permit mail servers on loopback and private addresses, and any port",
    "mail_ca_file": "PEM file of further certificate authorities for mail servers",
    "checks_at_once": "mailbox checks running at the same time",
    "checks_per_host": "mailbox checks running at the same time on one mail server",
    "mail_timeout_s": "seconds a mail server may take for one answer",
    "mail_bytes_max": "larger mails are kept with their headers only, bytes",
    "mailboxes_per_user": "mailboxes one user may have",
    "entities_resident": "mailboxes and rosters kept in memory",
    "entity_idle_s": "seconds after which an idle one leaves memory",
    "tail_events_max": "recent events kept in memory for fast delivery",
    "tail_bytes_max": "the same, bytes",
    "dictionary": "file of the zstd dictionary to compress with; the shipped one where unset",
    "log_level": "debug, info, warning or error",
    "log_json": "log lines as JSON instead of text",
}
"""One sentence per setting; a test compares the names with `Settings` and with the README."""

MINIMA: Mapping[str, float] = {
    "port": 0,
    "connections_per_ip": 0,
    "connections_per_user": 0,
    "messages_per_s": 0,
    "message_bytes_max": 1024,
    "subscriptions_max": 1,
    "window": 1,
    "heartbeat_s": 0.1,
    "auth_timeout_s": 0.1,
    "ack_timeout_s": 0.1,
    "drain_timeout_s": 0.1,
    "http_requests_per_s": 0,
    "unauthenticated_max": 1,
    "unauthenticated_per_ip": 0,
    "checks_at_once": 1,
    "checks_per_host": 1,
    "mail_timeout_s": 0.1,
    "mail_bytes_max": 65_536,
    "mailboxes_per_user": 1,
    "entities_resident": 16,
    "entity_idle_s": 1,
    "tail_events_max": 16,
    "tail_bytes_max": 65_536,
}

MAXIMA: Mapping[str, float] = {"port": 65_535, "window": 4096}

_OTHER_VARIABLES = {"HUAHUO_TOKEN"}
"""Read by commands, but no settings."""

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def load(
    *, environ: Mapping[str, str], file: Path | None = None, flags: Mapping[str, Any] | None = None
) -> Settings:
    """The settings in force. `flags` whose value is None count as not given.

    Raises:
        ConfigError: a name is unknown or a value does not fit; the text names the source and the name,
            never a secret's value.
    """
    values: dict[str, Any] = {}
    if file is not None:
        values.update(_from_file(file))
    values.update(_from_environ(environ))
    values.update({k: v for k, v in (flags or {}).items() if v is not None})
    settings = Settings(**values)
    _check(settings)
    return settings


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Variables that look like settings and are none: most likely a slip of the pen. To be warned of.

    They are not refused, because a host may hold variables of newer versions or of other programs.
    """
    known = {PREFIX + name.upper() for name in Settings.__struct_fields__} | _OTHER_VARIABLES
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)


def _from_file(file: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None
    return {name: _convert(name, value, str(file)) for name, value in table.items()}


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    fields = {PREFIX + name.upper(): name for name in Settings.__struct_fields__}
    return {
        name: _convert(name, environ[variable], variable)
        for variable, name in fields.items()
        if variable in environ
    }


def _convert(name: str, value: object, source: str) -> Any:
    """`value` (text, or what TOML gave) as the field's type."""
    hints = Settings.__annotations__
    if name not in hints:
        known = ", ".join(sorted(hints))
        raise ConfigError(f"{source}: there is no setting {name!r}; known: {known}")
    wanted = hints[name]
    try:
        return _as_type(wanted, value)
    except ValueError as error:
        shown = "" if name in SECRETS else f", not {value!r}"
        raise ConfigError(f"{source}: {name} must be {error}{shown}") from None


def _as_type(wanted: Any, value: object) -> Any:
    if wanted is Path:
        return Path(str(value))
    if get_origin(wanted) is tuple or isinstance(wanted, UnionType):
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, get_args(wanted)[0]) for item in items):
            raise ValueError("a list of texts (in the environment: separated by commas)")
        return tuple(item.strip() for item in items if item.strip())
    if wanted is bool:
        text = str(value).lower()
        if text not in _TRUE | _FALSE:
            raise ValueError("1 or 0")
        return text in _TRUE
    if wanted in (int, float):
        if isinstance(value, bool):
            raise ValueError("a number")
        if wanted is int and isinstance(value, float):
            raise ValueError("a whole number")
        try:
            return wanted(value)
        except (TypeError, ValueError):
            raise ValueError("a whole number" if wanted is int else "a number") from None
    if not isinstance(value, str):
        raise ValueError("a text")  # noqa: TRY004  one kind of failure for the caller
    return value


def _check(settings: Settings) -> None:
    for name, least in MINIMA.items():
        value = getattr(settings, name)
        if not value >= least:
            raise ConfigError(f"{name} must be at least {least:g}, not {value}")
        if math.isinf(value):
            raise ConfigError(f"{name} must be finite, not {value}")
    for name, most in MAXIMA.items():
        value = getattr(settings, name)
        if value > most:
            raise ConfigError(f"{name} must be at most {most:g}, not {value}")
    if settings.log_level not in ("debug", "info", "warning", "error"):
        raise ConfigError(f"log_level must be debug, info, warning or error, not {settings.log_level!r}")
    for network in settings.trusted_proxies:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            raise ConfigError(f"trusted_proxies: {network!r} is not an address or a network") from None
