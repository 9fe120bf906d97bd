"""The service's settings: name, type, bounds, default and meaning of each, and where values come from.

Defaults < `huahuo.toml` < `HUAHUO_*` environment < flags. `Table` reads them and adds those of plug-ins;
it is pure except for reading a file. The page of settings, `huahuo config` and `huahuo doctor` are made
from here.

A field has a type, or `Annotated[<type>, Meta(ge=…, le=…)]`, a default, and below it a text with its
meaning. A field of the type `Mapping[str, <struct>]` is tables with names of their own:
`[providers.outlook]`; the environment has it as JSON. Bounds of the wire take their defaults from
`huahuo.transport.protocol.flow_control`, so that both always agree.
"""

import ast
import difflib
import inspect
import ipaddress
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from huahuo.actors.plugins.plugin import Plugin
from huahuo.errors import ConfigError
from huahuo.transport.protocol.flow_control import TransportSettings

SECONDS_MAX: Final = 10 * 365 * 86_400
"""The bound of settings in seconds; a refusal does not name it."""
_LISTED: Final = ": `huahuo config` lists all"
_JSON_LIST: Final = re.compile(r"""\s*\[\s*["'\]]""")
"""How a list in JSON or TOML begins. An address of IPv6 in brackets begins otherwise."""
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False, "": False}


def toml(value: object) -> str:
    """A value as TOML."""
    if isinstance(value, msgspec.Struct):
        given = {field: getattr(value, field) for field in value.__struct_fields__}
        value = {field: one for field, one in given.items() if one is not msgspec.UNSET}
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(key)} = {toml(one)}' for key, one in value.items())}}}"
    if isinstance(value, tuple):
        return f"[{', '.join(toml(item) for item in value)}]"
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False)
    return str(value).lower()


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f": did you mean {found[0]!r}?" if found else ""


def _kind_of(hint: Any) -> Any:
    """The type of a field without its bounds."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


@cache
def _meanings(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The text below each field, as it stands in the source. Raises OSError or TypeError without one."""
    [body] = ast.parse(dedent(inspect.getsource(struct))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            said = text.value if isinstance(text, ast.Expr) else None
            if isinstance(said, ast.Constant) and isinstance(said.value, str):
                found[field.target.id] = " ".join(said.value.split())
    return found


def _table_of(kind: Any) -> type[msgspec.Struct] | None:
    """The struct of a field that is tables by names, None for any other field."""
    if get_origin(kind) is not Mapping:
        return None
    table: type[msgspec.Struct] = get_args(kind)[1]
    return table


_WIRE = TransportSettings()

_Count = Annotated[int, Meta(ge=0)]
_Number = Annotated[int, Meta(ge=1)]
_Seconds = Annotated[float, Meta(ge=0.1, le=SECONDS_MAX)]
_Span = Annotated[float, Meta(ge=0, le=SECONDS_MAX)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting. The environment variable of a field is `HUAHUO_` and the field in capitals."""

    data: Path = Path("huahuo-data")
    """directory of the log and its keys; one process per directory"""
    host: str = "127.0.0.1"
    """address to listen on; use a TLS proxy in front of a public one"""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8765
    """TCP port; 0 takes a free one"""
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    """processes that serve WebSockets besides the one with the log; 1: that one does it"""
    jwt_secret: str = ""
    """HS256 key of the tokens, at least 32 bytes; made at the first start where unset"""
    jwt_secrets_previous: tuple[str, ...] = ()
    """older token keys that still verify while you rotate; new tokens use jwt_secret"""
    jwks_url: str = ""
    """address of an issuer's keys (JWKS) for RS256, ES256 and EdDSA tokens; https://"""
    jwt_issuer: str = ""
    """`iss` that tokens of those keys must have; unset: any, or none"""
    jwt_audience: str = ""
    """the same for `aud`, which may also be a list with this value"""
    user_claim: str = ""
    """claim with the user's id, or a path a.b to it; unset: user_id, else sub"""
    groups_claim: str = ""
    """claim with the user's groups, a list or a text with spaces; unset: groups"""
    admin_claim: str = ""
    """claim that makes administrators; CLAIM=VALUE: if it is that value, or lists it"""
    authenticate_timeout_s: Annotated[float, Meta(ge=0.1, le=60)] = 5.0
    """seconds that an application's authenticate and authorize may take"""
    language: Literal["", "zh", "en"] = ""
    """zh or en: messages to clients that ask for no language; unset: en over HTTP, else zh; classic
    clients always get zh
    """
    master_key: str = ""
    """64 hex digits that wrap the mailboxes' keys; made at the first start where unset"""
    origins: tuple[str, ...] = ()
    """browser origins accepted in addition to the server's own host name"""
    trusted_proxies: tuple[str, ...] = ()
    """addresses or networks whose X-Forwarded-For and -Prefix count"""
    connections_per_ip: _Count = 64
    """WebSocket connections per client address; 0 = no limit"""
    connections_per_user: _Count = 32
    """WebSocket connections per user; 0 = no limit"""
    messages_per_s: _Count = _WIRE.messages_per_s
    """messages per second and connection, burst twice that; 0 = no limit"""
    message_bytes_max: Annotated[int, Meta(ge=1024)] = _WIRE.message_bytes_max
    """largest client message, bytes"""
    subscriptions_max: _Number = _WIRE.subscriptions_max
    """streams per connection"""
    window: Annotated[int, Meta(ge=1, le=4096)] = _WIRE.window
    """un-acked events per connection where the client asks for nothing else"""
    heartbeat_s: _Seconds = _WIRE.heartbeat_s
    """seconds between pings; a client silent for two is closed"""
    auth_timeout_s: _Seconds = _WIRE.auth_timeout_s
    """seconds a connection may stay unauthenticated"""
    ack_timeout_s: _Seconds = _WIRE.ack_timeout_s
    """seconds without an ack while events are outstanding"""
    drain_timeout_s: _Seconds = _WIRE.drain_timeout_s
    """seconds a stop may take"""
    http_requests_per_s: _Count = 50
    """plain HTTP requests per second and address, burst four times that; 0 = no limit"""
    http_calls_per_s: _Count = 1000
    """the same with a token, per second and user; 0 = no limit"""
    http_shared_cache: bool = False
    """let caches between you and your users keep closed pages; they must check rights"""
    durable_streams: Literal["off", "token", "open"] = "token"
    """the Durable Streams protocol under /ds/; open: without sign-in on this machine"""
    durable_streams_forced: bool = False
    """with open: let every machine that reaches the service read and write them"""
    webhooks_allow_private: bool = False
    """let webhooks go to this machine, private networks and http://"""
    unauthenticated_max: _Number = _WIRE.unauthenticated_max
    """sockets not yet authenticated; one more replaces the oldest of its address"""
    unauthenticated_per_ip: _Count = _WIRE.unauthenticated_per_address
    """the same per client address; 0 = no limit"""
    lobby_bytes_max: Annotated[int, Meta(ge=65536)] = _WIRE.lobby_bytes_max
    """bytes such sockets may hold together; beyond it the fullest are cut off"""
    memory_bytes_max: _Count = 0
    """bytes of memory the service may use: an eighth is for what is on its way in, at most 512 MiB; 0: the
    limit of its cgroup, else what the machine has
    """
    entities_resident: Annotated[int, Meta(ge=16)] = 100_000
    """entities kept in memory"""
    entity_idle_s: Annotated[float, Meta(ge=1, le=SECONDS_MAX)] = 300.0
    """seconds after which an idle one leaves memory"""
    tail_events_max: Annotated[int, Meta(ge=16)] = 65_536
    """recent events kept in memory for fast delivery"""
    tail_bytes_max: Annotated[int, Meta(ge=65536)] = 64 << 20
    """the same, bytes: 500 for each event, and its body; shared by the workers"""
    log_queue_bytes_per_user: Annotated[int, Meta(ge=65536)] = 16 << 20
    """bytes of one user's appends that may wait for their commit; beyond: `busy`"""
    log_queue_bytes_max: Annotated[int, Meta(ge=65536)] = 64 << 20
    """the same, of all users; a user always has an even share of it"""
    jobs_waiting_per_user: _Number = 1024
    """reads and parses of one user that may wait for a thread; beyond: `busy`"""
    jobs_waiting_max: _Number = 8192
    """the same, of all users; a user always has an even share of it"""
    command_records_per_user: Annotated[int, Meta(ge=1000)] = 100_000
    """answers of commands remembered per user, at most 8 days"""
    ack_clients_per_user: _Number = 256
    """client ids per user whose acks are kept"""
    entities_bytes_max: Annotated[int, Meta(ge=1048576)] = 128 << 20
    """bytes of entities kept in memory, by estimate"""
    unsent_bytes_max: Annotated[int, Meta(ge=1048576)] = _WIRE.unsent_bytes_max
    """bytes of replies and snapshots not sent yet, of all users; beyond: `busy`"""
    unsent_bytes_per_user: Annotated[int, Meta(ge=1048576)] = _WIRE.unsent_bytes_per_user
    """the same for one user"""
    unsent_bytes_per_connection: Annotated[int, Meta(ge=1048576)] = _WIRE.unsent_bytes_per_connection
    """the same for one connection; one reply may take 16 MiB"""
    dictionary: str = ""
    """file of the zstd dictionary to compress with; the shipped one where unset"""
    login_ttl_s: Annotated[float, Meta(ge=60, le=SECONDS_MAX)] = 43_200.0
    """seconds that a token of a sign-in with a password is good"""
    registration: bool = False
    """let anybody who reaches the service make an account; an administrator can switch it"""
    user_bytes_max: _Count = 0
    """bytes that one user may take; beyond: `quota_exceeded`; 0 = no limit"""
    streams_begun_per_day: _Count = 100_000
    """streams that one user may begin within a day, mailboxes included; then `rate_limited`;
    administrators are not bounded; 0 = no limit
    """
    list_changes_s: _Span = 604_800.0
    """seconds for which a live list knows what changed; who was away for longer gets it anew"""
    retention: tuple[str, ...] = ()
    """streams and what stays of them, `group/*=30d`, `ds/*=7d 1GiB`; first match counts"""
    disk_low_bytes: _Count = 256 << 20
    """free bytes on the disk below which what stores more is refused; 0 = off"""
    backup_every_s: _Span = 86_400.0
    """seconds between two backups to backup_to, where that is set; 0 = none"""
    backup_keep: _Number = 14
    """how many of those backups stay; older ones are deleted"""
    backup_to: str = ""
    """where backups go: a directory, or s3://BUCKET/PREFIX (extra s3)"""
    classic_ui: str = ""
    """directory of a built copy of FireMail's front end, shown at / (console: /console/)"""
    otel: bool = False
    """export traces by OpenTelemetry (extra otel), to where OTEL_… variables say"""
    sends: Literal["auto", "send", "transport"] = _WIRE.sends
    """how new events are written to sockets: send needs the part in C, which then reads acks too;
    transport: by the event loop; auto: send where it is built
    """
    log: str = ""
    """postgres:// or nats:// address of the log that several nodes share; unset: one service"""
    node: str = ""
    """name of this node, its own in the cluster; unset: made once and kept in data"""
    advertise: str = ""
    """URL at which other nodes reach this one; unset: where it listens"""
    log_trim_after_h: _Span = 12.0
    """hours that the ordered log keeps what all nodes have applied; 0: until `huahuo cluster trim`"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """debug, info, warning or error"""
    log_json: bool = False
    """log lines as JSON instead of text"""
    plugins: Mapping[str, Any] = {}
    """Settings of plug-ins by the plug-in's name, each a `Plugin.settings`. No setting itself."""

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name not in SECRETS)
        return f"Settings({', '.join(shown)})"


SECRETS = frozenset({"jwt_secret", "jwt_secrets_previous", "master_key", "log"})
"""Fields whose values never appear in output."""

PREFIX = "HUAHUO_"

_OTHER_VARIABLES = {"HUAHUO_APP", "HUAHUO_TOKEN"}
"""Variables that commands read but that are not settings."""


class Table:
    """The settings of the service and of its plug-ins, each by a name of its own.

    Raises:
        ConfigError: two have a setting of the same name, or a setting has no meaning or default.
    """

    def __init__(self, plugins: Sequence[Plugin] = ()) -> None:
        own = {plugin.name: plugin.settings for plugin in plugins if plugin.settings is not None}
        self._owners: dict[str, type[msgspec.Struct]] = {"": Settings, **own}
        self._secrets = SECRETS.union(*(plugin.secret_settings for plugin in plugins))
        self._types: dict[str, Any] = {}
        self._owner: dict[str, str] = {}
        self._defaults: dict[str, Any] = {}
        for owner, struct in self._owners.items():
            try:
                defaults = struct()
            except TypeError:
                raise ConfigError(f"{struct.__name__}: every setting must have a default") from None
            for name, kind in get_type_hints(struct, include_extras=True).items():
                if name != "plugins":
                    self._add(owner, struct, name, kind)
                    self._defaults[name] = getattr(defaults, name)

    def load(
        self,
        *,
        environ: Mapping[str, str],
        file: Path | None = None,
        flags: Mapping[str, Any] | None = None,
        base: Mapping[str, Any] | None = None,
    ) -> Settings:
        """The effective settings. `flags` whose value is None count as not given. `base` yields to all.

        Raises:
            ConfigError: a name is unknown or a value is invalid. The text has the source and the name, but
                never the value of a secret.
        """
        values = self._converted(base or {}, "the application")
        if file is not None:
            given = {name: value for name, value in _read(file).items() if name != "app"}  # see `application`
            values.update(self._converted(given, str(file)))
        variables = {
            name: environ[self.variable(name)] for name in self.names if self.variable(name) in environ
        }
        values.update(
            {name: self._convert(name, text, self.variable(name)) for name, text in variables.items()}
        )
        given = {name: value for name, value in (flags or {}).items() if value is not None}
        values.update(self._converted(given, "settings"))
        made = {
            owner: struct(**{name: value for name, value in values.items() if self._owner[name] == owner})
            for owner, struct in self._owners.items()
        }
        own: Any = made.pop("")
        settings: Settings = msgspec.structs.replace(own, plugins=made)
        _check(settings)
        return settings

    def unknown_variables(self, environ: Mapping[str, str]) -> list[str]:
        """Variables with the prefix of settings that are not settings, most likely misspelled.

        They cause a warning rather than an error, because a host may have variables of newer versions or of
        other programs.
        """
        known = {self.variable(name) for name in self.names} | _OTHER_VARIABLES
        return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)

    def as_toml(self) -> str:
        """A `huahuo.toml` with every setting as a comment, with its meaning and its default."""
        lines = [
            "## Settings of huahuo. Remove the # in front of a line to change it.",
            "## The environment (HUAHUO_PORT=…) and flags win over this file.",
        ]
        for name in self.names:
            value = toml(self._defaults[name])
            lines += ["", f"## {self.meaning(name)} ({self.variable(name)})", f"# {name} = {value}"]
        return "\n".join(lines) + "\n"

    def changed(self, settings: Settings) -> dict[str, str]:
        """The settings that differ from the defaults, as TOML values without secrets."""
        values = {
            name: getattr(settings.plugins[owner] if owner else settings, name)
            for name, owner in self._owner.items()
        }
        return {
            name: "(set)" if name in self._secrets else toml(value)
            for name, value in values.items()
            if value != self._defaults[name]
        }

    def _add(self, owner: str, struct: type[msgspec.Struct], name: str, kind: Any) -> None:
        if name in self._types:
            raise ConfigError(f"the setting {name!r} of {struct.__name__} is there already")
        if owner and not self._meaning(struct, name):
            raise ConfigError(f'{struct.__name__}.{name}: write its meaning below it: """…"""')
        self._types[name], self._owner[name] = kind, owner

    @property
    def names(self) -> tuple[str, ...]:
        """Every setting in the order of the structs."""
        return tuple(self._types)

    def variable(self, name: str) -> str:
        """The environment variable of a setting."""
        return PREFIX + name.upper()

    def meaning(self, name: str) -> str:
        """One sentence."""
        return self._meaning(self._owners[self._owner[name]], name)

    @staticmethod
    def _meaning(struct: type[msgspec.Struct], name: str) -> str:
        try:
            return _meanings(struct).get(name, "")
        except (OSError, TypeError):  # TypeError: its module is not one that was imported by name
            return "see the program that has this setting"

    def default(self, name: str) -> Any:
        """The value that holds where nothing is given."""
        return self._defaults[name]

    def _converted(self, values: Mapping[str, object], source: str) -> dict[str, Any]:
        """Values as the fields' types. Raises ConfigError: a name is unknown or a value does not fit."""
        for name, value in values.items():
            if name not in self._types:
                if isinstance(value, Mapping) and any(key in self._types for key in value):
                    raise ConfigError(
                        f"{source}: settings stand in no table: remove the line [{name}] above them"
                    )
                raise ConfigError(
                    f"{source}: there is no setting {name!r}{_nearest(name, self._types) or _LISTED}"
                )
        return {name: self._convert(name, value, source) for name, value in values.items()}

    def _convert(self, name: str, value: object, source: str) -> Any:
        """A text or a TOML value as the field's type, within its bounds. Raises ConfigError."""
        kind = _kind_of(self._types[name])
        given = value
        if (table := _table_of(kind)) is not None:
            return self._tables(name, value, table, source)
        if kind is bool and isinstance(value, str):
            given = _WORDS.get(value.lower(), value)
        elif kind == tuple[str, ...] and isinstance(value, str):
            if _JSON_LIST.match(value):  # else the brackets would be part of a secret or address
                raise ConfigError(self._refusal(name, value, source))
            given = value.split(",")
        elif kind is str and not isinstance(value, str):
            raise ConfigError(self._refusal(name, value, source))
        try:
            converted = msgspec.convert(
                given, self._types[name], strict=False, dec_hook=lambda kind, one: kind(one)
            )
        except (msgspec.ValidationError, TypeError, ValueError):
            raise ConfigError(self._refusal(name, value, source)) from None
        if isinstance(converted, tuple):
            return tuple(item.strip() for item in converted if item.strip())
        return converted

    def _tables(self, name: str, value: object, table: type[msgspec.Struct], source: str) -> dict[str, Any]:
        """Tables by their names. Refusals name the key, and the nearest one where it is unknown."""
        try:
            given = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            raise ConfigError(f"{source}: {name} must be JSON") from None
        if not isinstance(given, Mapping) or not all(isinstance(one, Mapping) for one in given.values()):
            raise ConfigError(f"{source}: {name} must be tables: [{name}.NAME]")
        made = {}
        for one, keys in given.items():
            for key in keys:
                if key not in table.__struct_fields__:
                    known = table.__struct_fields__
                    nearest = _nearest(key, known) or f": there are {', '.join(known)}"
                    raise ConfigError(f"{source}: {name}.{one}: there is no key {key!r}{nearest}")
            try:
                made[one] = msgspec.convert(keys, table)
            except msgspec.ValidationError as error:
                raise ConfigError(f"{source}: {name}.{one}: {error}".replace("`$.", "`")) from None
        return made

    def _refusal(self, name: str, value: object, source: str) -> str:
        shown = "" if name in self._secrets else f", not {value!r}"
        return f"{source}: {name} must be {self._wanted(name)}{shown}"

    def _wanted(self, name: str) -> str:
        """The type and bounds of a setting, in words."""
        hint = self._types[name]
        kind, metas = _kind_of(hint), getattr(hint, "__metadata__", ())
        if kind is bool:
            return "1 or 0"
        if kind == tuple[str, ...]:
            return "a list of texts (in the environment: separated by commas)"
        if kind in (int, float):
            words = "a whole number" if kind is int else "a number"
            most = "".join(f" and at most {meta.le}" for meta in metas if meta.le not in (None, SECONDS_MAX))
            least = "".join(f" of at least {meta.ge}" for meta in metas if meta.ge is not None)
            return f"{words}{least}{most}"
        options = get_args(kind)
        return f"one of {', '.join(options)}" if options else "a text"


def _check(settings: Settings) -> None:
    """Raises ConfigError: an address among the settings is none."""
    for network in settings.trusted_proxies:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError:
            raise ConfigError(f"trusted_proxies: {network!r} is not an address or a network") from None
    if settings.advertise and not _is_reachable_at(settings.advertise):
        shown = re.sub("//.*@", "//…@", settings.advertise)
        raise ConfigError(
            f"advertise: {shown!r} is no URL at which other nodes reach this one: write"
            " http://HOST:PORT, or https://HOST"
        )


_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104  nothing listens: they are refused


def _is_reachable_at(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.hostname not in _ANYWHERE
            and parts.port != 0
            and "@" not in parts.netloc
            and not (parts.query or parts.fragment or any(map(str.isspace, url)))
        )
    except ValueError:  # of the port, or of brackets
        return False


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))  # Windows' editors write a mark
    except OSError as error:
        hint = ": make it by `huahuo config > huahuo.toml`" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"cannot read {file}: {error.strerror}{hint}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None
