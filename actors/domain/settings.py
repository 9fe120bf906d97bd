"""The settings of the plug-in `entities`."""

from typing import Annotated

import msgspec
from msgspec import Meta

from huahuo.actors.domain.bounds import Bounds
from huahuo.actors.effects.bounds import Bounds as EffectBounds


class EntitySettings(msgspec.Struct, frozen=True):
    """Bounds of an application's entities."""

    decision_events_max: Annotated[
        int,
        Meta(description="Events, effects or rows that one decision of an entity may have.", ge=1, le=65_536),
    ] = Bounds().decision_events_max
    state_bytes_max: Annotated[
        int, Meta(description="Bytes that the state of one entity may have.", ge=1)
    ] = Bounds().state_bytes_max

    effect_bytes_max: Annotated[
        int, Meta(description="Bytes that the arguments of one effect may have, as JSON.", ge=1)
    ] = Bounds().effect_bytes_max
    effects_at_once: Annotated[int, Meta(description="Effects that run at a time.", ge=1)] = (
        EffectBounds().at_once
    )
    effects_waiting_max: Annotated[
        int,
        Meta(
            description="Effects that wait in memory, half of them of one user; the others wait in the log.",
            ge=2,
        ),
    ] = EffectBounds().waiting_max
