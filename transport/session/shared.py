"""Shared by all sessions of one server. Pure."""

from collections.abc import Callable, Mapping

import msgspec

from huahuo.actors.plugins.actions import Action
from huahuo.actors.plugins.words import Language, Words
from huahuo.transport.access.rights import Judged
from huahuo.transport.protocol.compression import Compression
from huahuo.transport.protocol.frames import EventTexts, FrameCache
from huahuo.transport.protocol.limits import TransportSettings
from huahuo.transport.session.ports import LogView


def nobody() -> int:
    """No other connection is known."""
    return 0


def knows_all(_stream: str) -> bool:
    """Every head is in memory."""
    return True


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """See the module. `fingerprint_key` must be the same after a restart."""

    settings: TransportSettings
    log: LogView
    frames: FrameCache
    commands: Mapping[str, Action]
    fingerprint_key: bytes
    compression: Compression | None = None
    """None: the compressed protocol is not spoken."""
    event_texts: EventTexts | None = None
    """None: no stream is read as server-sent events."""
    words: Words = Words()
    """The texts for clients."""
    language: Language | None = None
    """Of messages to clients that ask for none. None: English over HTTP, else Chinese."""
    judged: Judged = Judged()
    """The streams whose readers an application judges."""
    shared_log: bool = False
    """Whether other nodes write the log: then a cursor beyond a head may only be ahead of this node."""
    leaving: Callable[[], int] = nobody
    """How many connections leave together when this process drains."""
    knows: Callable[[str], bool] = knows_all
    """Whether the head of a stream is in memory. If not, its link at seq 0 is looked up first."""
