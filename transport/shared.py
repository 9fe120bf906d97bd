"""What all sessions of one server have in common. Pure."""

from collections.abc import Mapping

import msgspec

from transport.api import CommandSpec
from transport.compression import Compression
from transport.delivery import LogView
from transport.frames import FrameCache
from transport.settings import TransportSettings


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """See the module. `fingerprint_key` is the same after a restart."""

    settings: TransportSettings
    log: LogView
    frames: FrameCache
    commands: Mapping[str, CommandSpec]
    fingerprint_key: bytes
    compression: Compression | None = None
    """None: the compressed protocol is not spoken."""
