"""An open effect that today's code does not handle."""

from huahuo.actors.effects.facts import OpenEffect


class UnknownEffect(ValueError):  # noqa: N818  a refusal to start
    """Open effects have a name that today's code does not know."""


def unknown(row: OpenEffect, id_: int) -> str:
    """What to say of it, for people."""
    return (
        f"the effect {row.effect!r} of {row.entity} (number {id_}) is open, and nothing handles it: bring"
        f" back the class and its @{row.kind}.effect, or name= the new class {row.effect!r}"
    )
