"""The real service, wired as `huahuo serve` wires it, with a source of events inside.

What an embedding application does through `Service` happens here by the same way in (`log.submit`
on the service's loop); connections come over the socket. Run as a child by `peers/huahuo.py`.
"""

import argparse
import os
from collections.abc import Awaitable, Sequence
from pathlib import Path

from bench.servers.source import Event, Source, obey
from huahuo.app import config, logs, loops
from huahuo.app.plugins import standard
from huahuo.app.wiring import App
from huahuo.eventstore.ambient import SystemAmbient
from huahuo.eventstore.model import Append, NewEvent

GROUP_STREAM = "group/bench"


async def serve(data: Path, port: int) -> None:
    """Serve until stdin ends."""
    settings = config.Table(standard()).load(
        environ={name: os.environ[name] for name in ("HUAHUO_JWT_SECRET", "HUAHUO_MASTER_KEY")},
        flags={
            "data": data,
            "port": port,
            "connections_per_ip": 0,
            "unauthenticated_per_ip": 0,
            "http_requests_per_s": 0,
            "connections_per_user": 0,
            "messages_per_s": 0,
            "log_level": "error",
        },
    )
    logs.configure(settings.log_level, as_json=False)
    ambient = SystemAmbient()
    app = App(settings, ambient, plugins=standard())
    await app.start()

    def publish(events: Sequence[Event]) -> Awaitable[object]:
        return app.log.submit(
            Append(
                ts_ms=ambient.now_ms(),
                principal="service",
                events=tuple(
                    [
                        NewEvent(f"user/{user}" if user else GROUP_STREAM, "check_progress", event)
                        for user, event in events
                    ]
                ),
            )
        )

    await obey(Source(publish), {"port": app.port, "log": app.log.log_id})
    await app.stop()


def main() -> None:
    """Command line of the child."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    loops.own_the_process()
    loops.run(serve(options.data, options.port))


if __name__ == "__main__":
    main()
