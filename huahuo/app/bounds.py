"""Settings of the service as the bounds of its floors."""

import msgspec

from huahuo.actors.entities.residents import DirectoryLimits
from huahuo.app.config import Settings
from huahuo.transport.protocol.limits import TransportSettings


def of_entities(settings: Settings) -> DirectoryLimits:
    """How many entities stay in memory, and how long."""
    return DirectoryLimits(
        idle_s=settings.entity_idle_s,
        residents_max=settings.entities_resident,
        weight_max=settings.entities_bytes_max,
    )


def of_transport(settings: Settings) -> TransportSettings:
    """Copy every setting that has the same name there. Fields without a setting keep their default."""
    wire = msgspec.convert(settings, TransportSettings, from_attributes=True)
    return msgspec.structs.replace(wire, unauthenticated_per_address=settings.unauthenticated_per_ip)
