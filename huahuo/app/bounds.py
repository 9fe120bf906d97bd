"""Settings of the service as the bounds of its floors."""

from typing import Final

import msgspec

from huahuo.actors.entities.residents import DirectoryLimits
from huahuo.app.config import Settings
from huahuo.app.memory import limit_bytes
from huahuo.transport.protocol.limits import TransportSettings

_OF_MEMORY: Final = 8
"""One part in this many is for bodies and messages on their way in."""
_INTAKE_BYTES_MAX: Final = 512 << 20


def of_entities(settings: Settings) -> DirectoryLimits:
    """How many entities stay in memory, and how long."""
    return DirectoryLimits(
        idle_s=settings.entity_idle_s,
        residents_max=settings.entities_resident,
        weight_max=settings.entities_bytes_max,
    )


def tail_bytes_max(settings: Settings) -> int:
    """What each process may keep of recent events: the owner and its workers share the bound."""
    return settings.tail_bytes_max // (settings.workers + 1 if settings.workers > 1 else 1)


def of_transport(settings: Settings) -> TransportSettings:
    """Copy every setting that has the same name there. Fields without a setting keep their default."""
    wire = msgspec.convert(settings, TransportSettings, from_attributes=True)
    memory_bytes = settings.memory_bytes_max or limit_bytes()
    intake_bytes = min(memory_bytes // _OF_MEMORY, _INTAKE_BYTES_MAX)
    if settings.workers > 1:  # theirs, what the owner has of theirs, and its own
        intake_bytes //= 3
    return msgspec.structs.replace(
        wire,
        unauthenticated_per_address=settings.unauthenticated_per_ip,
        intake_bytes_max=intake_bytes,
    )
