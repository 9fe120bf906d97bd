"""What asking an entity can raise beside what the event store raises.

EntityError
 +- Busy        the inbox is full, or others changed the same streams too often: try again
 +- Degraded    the entity failed again and again and rests for a while

No answer in time is `huahuo.actors.actor.errors.AskTimeout`: the outcome is unknown, ask again with the id.
"""


class EntityError(Exception):
    """Base of what `Directory` raises by itself."""


class Busy(EntityError):  # noqa: N818  the word of the wire protocol
    """Nothing was done; the same message may be sent again later."""


class Degraded(EntityError):  # noqa: N818
    """The entity cannot be loaded or fails at what it has loaded. Nothing was done."""
