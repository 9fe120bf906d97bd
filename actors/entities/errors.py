"""The errors of asking an entity, besides those of the event store.

EntityError
 +- Busy        the inbox is full, or others changed the same streams too often: try again
 +- Degraded    the entity failed repeatedly and does not run for a while

If no answer comes in time, `huahuo.actors.actor.errors.AskTimeout` is raised. The outcome is unknown: ask
again with the same id.
"""


class EntityError(Exception):
    """Base of the errors that `Directory` itself raises."""


class Busy(EntityError):  # noqa: N818  the word of the wire protocol
    """Nothing was done; the same message may be sent again later."""


class Degraded(EntityError):  # noqa: N818
    """The entity cannot be loaded, or fails with the loaded state. Nothing was done."""
