"""The service's own streams under `/ds/`, as streams of JSON that can only be read."""

from http import HTTPStatus
from typing import Final

from huahuo.transport.durable_streams import bodies
from huahuo.transport.durable_streams.asking import Wrong
from huahuo.transport.durable_streams.deciding import State
from huahuo.transport.durable_streams.part import Part
from huahuo.transport.http.admission import Visit
from huahuo.transport.http.reading import Denied, Reading
from huahuo.transport.protocol.place import Outcome, Place
from huahuo.transport.server.wires import Wires
from huahuo.transport.words import http_zh

_KINDS: Final = frozenset({"user", "group"})
_ALONE: Final = "system"


class Own:
    """See the module. The path must be the whole name: `user/42` is one, `user/42/answer` is not."""

    def __init__(self, wires: Wires, reading: Reading) -> None:
        self._wires = wires
        self._reading = reading

    def has(self, path: str) -> bool:
        """Whether `path` is the name of a stream of the service."""
        kind, _, rest = path.partition("/")
        if not rest or "/" in rest:
            return path == _ALONE
        return kind in _KINDS or kind in self._wires.shared.judged.kinds

    async def check_right(self, visit: Visit, path: str) -> None:
        """Raises Wrong: the user may not read it now. It takes a token, also where `/ds/` is open."""
        try:
            await self._reading.check_right(visit, path)
        except Denied as denied:
            if denied.corrupt:
                raise Wrong(HTTPStatus.INTERNAL_SERVER_ERROR, http_zh.STREAM_DAMAGED) from None
            if denied.pending:
                raise Wrong(HTTPStatus.SERVICE_UNAVAILABLE, http_zh.RIGHT_NOT_KNOWN) from None
            raise Wrong(HTTPStatus.FORBIDDEN, http_zh.NOT_YOURS_TO_READ) from None

    def state(self, path: str) -> State:
        """The stream as it is now. One without events is empty: its first may be on its way."""
        head = self._wires.feed.head(path)
        return State(start=max(head.first - 1, 0), tail=head.seq, content_type=bodies.JSON, seen_ms=0)

    async def part(self, path: str, state: State, at: int, events_max: int, bytes_max: int) -> Part:
        """The events that follow `at`, up to these bounds. Each has its `stream` and `seq`."""
        page = await self._reading.events(path, Place(Outcome.RESUMED, at), events_max, bytes_max)
        body = b"[%b]" % b",".join(page.events)
        return Part(state, body, at, page.following, at_end=page.following >= state.tail)
