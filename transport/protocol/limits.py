"""The limits of the wire (PROTOCOL 3, 5, 6) with their defaults. Pure."""

from typing import Literal

import msgspec

UNAUTHENTICATED_MAX = 12_288
"""Sockets whose client has not authenticated. The loop may accept all that the kernel holds (4,096) twice
before it reads the first bytes of any."""


class TransportSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds that the transport keeps. Units are in the names.

    0 means no limit for `messages_per_s` and `unauthenticated_per_address`. A classic client (no subprotocol)
    is sent `heartbeat` every `heartbeat_s` and may be silent for three of them, a v1 client for two.
    """

    origins: tuple[str, ...] = ()
    message_bytes_max: int = 1 << 20
    unauthenticated_bytes_max: int = 64 << 10
    json_depth_max: int = 32
    messages_per_s: int = 100
    subscriptions_max: int = 256
    commands_outstanding_max: int = 64
    window: int = 512
    window_max: int = 4096
    heartbeat_s: float = 30.0
    auth_timeout_s: float = 10.0
    ack_timeout_s: float = 60.0
    token_warning_s: float = 60.0
    lag_interval_s: float = 1.0
    open_timeout_s: float = 10.0
    close_timeout_s: float = 2.0
    drain_timeout_s: float = 10.0
    frame_bytes_max: int = 256 << 10
    frame_events_max: int = 256
    page_events_max: int = 1024
    reply_bytes_max: int = 16 << 20
    part_bytes_max: int = 512 << 10
    write_buffer_bytes_max: int = 256 << 10
    classic_buffer_bytes_max: int = 1 << 20
    frame_cache_bytes_max: int = 32 << 20
    unsent_bytes_max: int = 128 << 20
    unsent_bytes_per_user: int = 32 << 20
    unsent_bytes_per_connection: int = 20 << 20
    unsent_stuck_s: float = 10.0
    unauthenticated_max: int = UNAUTHENTICATED_MAX
    unauthenticated_per_address: int = 256
    lobby_bytes_max: int = 32 << 20
    intake_bytes_max: int = 64 << 20
    sends: Literal["auto", "send", "transport"] = "auto"

    @property
    def messages_burst(self) -> int:
        """At most this many messages may come at once."""
        return 2 * self.messages_per_s

    @property
    def first_bytes_max(self) -> int:
        """The largest message of a client that has not authenticated."""
        return min(self.unauthenticated_bytes_max, self.message_bytes_max)
