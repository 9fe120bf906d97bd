"""Acks in the form in which clients write them, read without `incoming.parse` (PROTOCOL 5). Pure."""

from typing import Literal

import msgspec

from huahuo.eventstore.limits import BROWSER_INT_MAX
from huahuo.transport.protocol.incoming import Seq, StreamName


class _PlainAck(msgspec.Struct, frozen=True):
    """An ack and nothing else."""

    action: Literal["ack"]
    cursors: dict[StreamName, Seq]


_ACK_DIGITS_MAX = len(str(BROWSER_INT_MAX)) - 1
"""A number of this many digits is never beyond `BROWSER_INT_MAX`."""
_encode = msgspec.json.Encoder().encode
_ack_decoder = msgspec.json.Decoder(_PlainAck)


def plain_ack(data: bytes) -> dict[str, int] | None:
    """The cursors if `data` is an ack in the usual form. None: it must go through `incoming.parse`.

    If encoding the decoded ack gives the same bytes, it has no repeated or unknown members.
    """
    if not data.startswith(b'{"action":"ack",'):
        return None
    try:
        ack = _ack_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return ack.cursors if _encode(ack) == data else None


def front_of_ack(text: bytes, seq: int) -> bytes:
    """What comes before the number in `text`, a `plain_ack` of one stream up to `seq`."""
    return text[: -len(b"%d}}" % seq)]


def seq_of_ack(text: bytes, front: bytes) -> int:
    """The seq, if `text` is a `plain_ack` with this `front_of_ack`. -1: `plain_ack` must look at it.

    Most acks differ from the last one of their connection in the number only.
    """
    if not (text.startswith(front) and text.endswith(b"}}")):
        return -1
    digits = text[len(front) : -2]
    count = len(digits)
    if not digits.isdigit() or count > _ACK_DIGITS_MAX or (count > 1 and digits.startswith(b"0")):
        return -1
    return int(digits)
