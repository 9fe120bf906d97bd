"""Joins the bodies of consecutive events for the wire, for engines that give rows only. Pure."""

from collections.abc import Iterable

from huahuo.eventstore.model import Joined


def joined_of(rows: Iterable[tuple[int, bytes]], bytes_max: int) -> Joined | None:
    """The bodies of (seq, body) rows up to the first hole, or until they would exceed `bytes_max`.

    Reads no row beyond the first that does not fit. None if there is no row.
    """
    first, size = 0, -1
    bodies: list[bytes] = []
    for seq, body in rows:
        size += len(body) + 1
        if bodies and (size > bytes_max or seq != first + len(bodies)):
            break
        first = first or seq
        bodies.append(body)
    return Joined(first, len(bodies), b",".join(bodies)) if bodies else None
