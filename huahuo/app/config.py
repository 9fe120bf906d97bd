"""The service's settings: the name, type, bounds, default and meaning of each.

`table` reads them, and adds those of plug-ins. The page of settings, `huahuo config` and `huahuo doctor` are
made from here. Bounds of the wire take their defaults from `huahuo.transport.protocol.limits`, so that both
always agree.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from huahuo.app.fields import SECONDS_MAX
from huahuo.transport.protocol.limits import TransportSettings

_WIRE = TransportSettings()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting. The environment variable of a field is `HUAHUO_` and the field in capitals."""

    data: Annotated[
        Path, Meta(description="directory of the log and its keys; one process per directory")
    ] = Path("huahuo-data")
    host: Annotated[
        str, Meta(description="address to listen on; use a TLS proxy in front of a public one")
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port; 0 takes a free one")] = 8765
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="processes that serve WebSockets besides the one with the log; 1: that one does it",
        ),
    ] = 1
    jwt_secret: Annotated[
        str,
        Meta(description="HS256 key of the tokens, at least 32 bytes; made at the first start where unset"),
    ] = ""
    jwt_secrets_previous: Annotated[
        tuple[str, ...],
        Meta(description="older token keys that still verify while you rotate; new tokens use jwt_secret"),
    ] = ()
    jwks_url: Annotated[
        str,
        Meta(description="address of an issuer's keys (JWKS) for RS256, ES256 and EdDSA tokens; https://"),
    ] = ""
    jwt_issuer: Annotated[
        str, Meta(description="`iss` that tokens of those keys must have; unset: any, or none")
    ] = ""
    jwt_audience: Annotated[
        str, Meta(description="the same for `aud`, which may also be a list with this value")
    ] = ""
    user_claim: Annotated[
        str, Meta(description="claim with the user's id, or a path a.b to it; unset: user_id, else sub")
    ] = ""
    groups_claim: Annotated[
        str, Meta(description="claim with the user's groups, a list or a text with spaces; unset: groups")
    ] = ""
    admin_claim: Annotated[
        str,
        Meta(description="claim that makes administrators; CLAIM=VALUE: if it is that value, or lists it"),
    ] = ""
    authenticate_timeout_s: Annotated[
        float,
        Meta(ge=0.1, le=60, description="seconds that an application's authenticate and authorize may take"),
    ] = 5.0
    language: Annotated[
        Literal["", "zh", "en"],
        Meta(
            description="zh or en: messages to clients that ask for no language; unset: en over HTTP,"
            " else zh; classic clients always get zh"
        ),
    ] = ""
    master_key: Annotated[
        str,
        Meta(description="64 hex digits that wrap the mailboxes' keys; made at the first start where unset"),
    ] = ""
    origins: Annotated[
        tuple[str, ...],
        Meta(description="browser origins accepted in addition to the server's own host name"),
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...], Meta(description="addresses or networks whose X-Forwarded-For and -Prefix count")
    ] = ()
    connections_per_ip: Annotated[
        int, Meta(ge=0, description="WebSocket connections per client address; 0 = no limit")
    ] = 64
    connections_per_user: Annotated[
        int, Meta(ge=0, description="WebSocket connections per user; 0 = no limit")
    ] = 32
    messages_per_s: Annotated[
        int, Meta(ge=0, description="messages per second and connection, burst twice that; 0 = no limit")
    ] = _WIRE.messages_per_s
    message_bytes_max: Annotated[int, Meta(ge=1024, description="largest client message, bytes")] = (
        _WIRE.message_bytes_max
    )
    subscriptions_max: Annotated[int, Meta(ge=1, description="streams per connection")] = (
        _WIRE.subscriptions_max
    )
    window: Annotated[
        int,
        Meta(
            ge=1, le=4096, description="un-acked events per connection where the client asks for nothing else"
        ),
    ] = _WIRE.window
    heartbeat_s: Annotated[
        float,
        Meta(ge=0.1, le=SECONDS_MAX, description="seconds between pings; a client silent for two is closed"),
    ] = _WIRE.heartbeat_s
    auth_timeout_s: Annotated[
        float, Meta(ge=0.1, le=SECONDS_MAX, description="seconds a connection may stay unauthenticated")
    ] = _WIRE.auth_timeout_s
    ack_timeout_s: Annotated[
        float,
        Meta(ge=0.1, le=SECONDS_MAX, description="seconds without an ack while events are outstanding"),
    ] = _WIRE.ack_timeout_s
    drain_timeout_s: Annotated[float, Meta(ge=0.1, le=SECONDS_MAX, description="seconds a stop may take")] = (
        _WIRE.drain_timeout_s
    )
    http_requests_per_s: Annotated[
        int,
        Meta(
            ge=0,
            description="plain HTTP requests per second and address, burst four times that; 0 = no limit",
        ),
    ] = 50
    http_calls_per_s: Annotated[
        int,
        Meta(ge=0, description="the same with a token, per second and user; 0 = no limit"),
    ] = 1000
    http_shared_cache: Annotated[
        bool,
        Meta(description="let caches between you and your users keep closed pages; they must check rights"),
    ] = False
    durable_streams: Annotated[
        Literal["off", "token", "open"],
        Meta(description="the Durable Streams protocol under /ds/; open: without sign-in on this machine"),
    ] = "token"
    durable_streams_forced: Annotated[
        bool, Meta(description="with open: let every machine that reaches the service read and write them")
    ] = False
    webhooks_allow_private: Annotated[
        bool,
        Meta(description="let webhooks go to this machine, private networks and http://"),
    ] = False
    unauthenticated_max: Annotated[
        int,
        Meta(ge=1, description="sockets not yet authenticated; one more replaces the oldest of its address"),
    ] = _WIRE.unauthenticated_max
    unauthenticated_per_ip: Annotated[
        int, Meta(ge=0, description="the same per client address; 0 = no limit")
    ] = _WIRE.unauthenticated_per_address
    lobby_bytes_max: Annotated[
        int,
        Meta(
            ge=65536,
            description="bytes such sockets may hold together; beyond it the fullest are cut off",
        ),
    ] = _WIRE.lobby_bytes_max
    memory_bytes_max: Annotated[
        int,
        Meta(
            ge=0,
            description="bytes of memory the service may use: an eighth is for what is on its way in, at most"
            " 512 MiB; 0: the limit of its cgroup, else what the machine has",
        ),
    ] = 0
    entities_resident: Annotated[int, Meta(ge=16, description="entities kept in memory")] = 100_000
    entity_idle_s: Annotated[
        float, Meta(ge=1, le=SECONDS_MAX, description="seconds after which an idle one leaves memory")
    ] = 300.0
    tail_events_max: Annotated[
        int, Meta(ge=16, description="recent events kept in memory for fast delivery")
    ] = 65_536
    tail_bytes_max: Annotated[
        int,
        Meta(
            ge=65536, description="the same, bytes: 500 for each event, and its body; shared by the workers"
        ),
    ] = 64 << 20
    log_queue_bytes_per_user: Annotated[
        int,
        Meta(
            ge=65536, description="bytes of one user's appends that may wait for their commit; beyond: `busy`"
        ),
    ] = 16 << 20
    log_queue_bytes_max: Annotated[
        int, Meta(ge=65536, description="the same, of all users; a user always has an even share of it")
    ] = 64 << 20
    jobs_waiting_per_user: Annotated[
        int, Meta(ge=1, description="reads and parses of one user that may wait for a thread; beyond: `busy`")
    ] = 1024
    jobs_waiting_max: Annotated[
        int, Meta(ge=1, description="the same, of all users; a user always has an even share of it")
    ] = 8192
    command_records_per_user: Annotated[
        int, Meta(ge=1000, description="answers of commands remembered per user, at most 8 days")
    ] = 100_000
    ack_clients_per_user: Annotated[
        int, Meta(ge=1, description="client ids per user whose acks are kept")
    ] = 256
    entities_bytes_max: Annotated[
        int, Meta(ge=1048576, description="bytes of entities kept in memory, by estimate")
    ] = 128 << 20
    unsent_bytes_max: Annotated[
        int,
        Meta(
            ge=1048576,
            description="bytes of replies and snapshots not sent yet, of all users; beyond: `busy`",
        ),
    ] = _WIRE.unsent_bytes_max
    unsent_bytes_per_user: Annotated[int, Meta(ge=1048576, description="the same for one user")] = (
        _WIRE.unsent_bytes_per_user
    )
    unsent_bytes_per_connection: Annotated[
        int, Meta(ge=1048576, description="the same for one connection; one reply may take 16 MiB")
    ] = _WIRE.unsent_bytes_per_connection
    dictionary: Annotated[
        str, Meta(description="file of the zstd dictionary to compress with; the shipped one where unset")
    ] = ""
    login_ttl_s: Annotated[
        float,
        Meta(
            ge=60,
            le=SECONDS_MAX,
            description="seconds that a token of a sign-in with a password is good",
        ),
    ] = 43_200.0
    registration: Annotated[
        bool,
        Meta(
            description="let anybody who reaches the service make an account; an administrator can switch it"
        ),
    ] = False
    user_bytes_max: Annotated[
        int,
        Meta(
            ge=0,
            description="bytes that one user may take; beyond: `quota_exceeded`; 0 = no limit",
        ),
    ] = 0
    streams_begun_per_day: Annotated[
        int,
        Meta(
            ge=0,
            description="streams that one user may begin within a day, mailboxes included; then"
            " `rate_limited`; administrators are not bounded; 0 = no limit",
        ),
    ] = 100_000
    retention: Annotated[
        tuple[str, ...],
        Meta(description="streams and what stays of them, `group/*=30d`, `ds/*=7d 1GiB`; first match counts"),
    ] = ()
    disk_low_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="free bytes on the disk below which what stores more is refused; 0 = off",
        ),
    ] = 256 << 20
    backup_every_s: Annotated[
        float,
        Meta(
            ge=0,
            le=SECONDS_MAX,
            description="seconds between two backups to backup_to, where that is set; 0 = none",
        ),
    ] = 86_400.0
    backup_keep: Annotated[
        int, Meta(ge=1, description="how many of those backups stay; older ones are deleted")
    ] = 14
    backup_to: Annotated[
        str,
        Meta(description="where backups go: a directory, or s3://BUCKET/PREFIX (extra s3)"),
    ] = ""
    classic_ui: Annotated[
        str,
        Meta(
            description="directory of a built copy of FireMail's front end, shown at / (console: /console/)"
        ),
    ] = ""
    otel: Annotated[
        bool, Meta(description="export traces by OpenTelemetry (extra otel), to where OTEL_… variables say")
    ] = False
    sends: Annotated[
        Literal["auto", "send", "transport"],
        Meta(
            description="how new events are written to sockets: send needs the part in C, which then reads"
            " acks too; transport: by the event loop; auto: send where it is built"
        ),
    ] = _WIRE.sends
    log: Annotated[
        str,
        Meta(
            description=(
                "postgres:// or nats:// address of the log that several nodes share; unset: one service"
            )
        ),
    ] = ""
    node: Annotated[
        str, Meta(description="name of this node, its own in the cluster; unset: made once and kept in data")
    ] = ""
    advertise: Annotated[
        str, Meta(description="URL at which other nodes reach this one; unset: where it listens")
    ] = ""
    log_trim_after_h: Annotated[
        float,
        Meta(
            ge=0,
            le=SECONDS_MAX,
            description="hours that the ordered log keeps what all nodes have applied; 0: until"
            " `huahuo cluster trim`",
        ),
    ] = 12.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="debug, info, warning or error")
    ] = "info"
    log_json: Annotated[bool, Meta(description="log lines as JSON instead of text")] = False
    plugins: Mapping[str, Any] = {}
    """Settings of plug-ins by the plug-in's name, each a `Plugin.settings`. No setting itself."""

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name not in SECRETS)
        return f"Settings({', '.join(shown)})"


SECRETS = frozenset({"jwt_secret", "jwt_secrets_previous", "master_key", "log"})
"""Fields whose values never appear in output."""
