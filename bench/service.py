"""The real service, wired as `huahuo serve` wires it, with a source of events inside.

It publishes as any application does, by `publish` and `publish_many`; connections come over the socket.
Run as a child by `peers.Huahuo`.
"""

import sys
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.source import Source, fields, obey
from huahuo import Huahuo
from huahuo.app import logs, process
from huahuo.app.application import with_mail
from huahuo.eventstore.model import StoredEvent
from huahuo.transport.server.fanout import FanOut

GROUP_STREAM = "group/bench"
_OURS = ("user/", "group/")
_TYPE = "order_progress"
"""As long as `check_progress`, which belongs to mail."""


async def serve(data: Path, workers: int) -> None:
    """Serve until stdin ends."""
    logs.configure("error", as_json=False)
    app = Huahuo(
        plugins=with_mail(),
        data=data,
        port=0,
        workers=workers,
        log_level="error",
        connections_per_ip=0,
        unauthenticated_per_ip=0,
        http_requests_per_s=0,
        connections_per_user=0,
        messages_per_s=0,
    )

    def publish(events: Sequence[tuple[int, dict[str, Any]]]) -> Awaitable[object]:
        if len(events) == 1:
            user, told = events[0]
            return app.publish(_stream(user), _TYPE, told)
        return app.publish_many([(_stream(user), _TYPE, told) for user, told in events])

    source = Source(publish, fields)
    _note_commits(source)
    async with app:
        running = app.running
        pids = [] if running.fleet is None else running.fleet.pids
        await obey(source, {"port": running.port, "log": running.log.log_id, "workers": pids})


def _note_commits(source: Source[Any]) -> None:
    """Tell the source when its events are durable: right before they are handed to connections."""
    hand_out = FanOut.committed

    def committed(self: FanOut, by_stream: Mapping[str, Sequence[StoredEvent]] | None) -> None:
        if source.notes_durable:
            ours = (len(events) for stream, events in (by_stream or {}).items() if stream.startswith(_OURS))
            source.durable(sum(ours))
        hand_out(self, by_stream)

    FanOut.committed = committed  # type: ignore[method-assign]  # the server is as it is


def _stream(user: int) -> str:
    return f"user/{user}" if user else GROUP_STREAM


def main() -> None:
    """Command line of the child: its directory and the number of workers."""
    process.own_the_process()
    process.run(serve(Path(sys.argv[1]), int(sys.argv[2])))


if __name__ == "__main__":
    main()
