"""Other places that make events durable: pyeventsourcing's SQLite recorder and JetStream."""

import asyncio
import functools
import importlib.metadata
import importlib.util
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

EVENTSOURCING = "eventsourcing"
STREAMS = 1000
TYPE = "parcel_progress"
FIELDS = {"email_id": 17, "progress": 75, "message": "x" * 135}
"""With type and timestamp as long as `BODY`."""
BODY = b'{"type":"check_progress","email_id":17,"progress":75,"message":"%s"}' % (b"x" * 188)
_THREADS = 16


class EventSourcing:
    """pyeventsourcing's recorder over a file, one `insert_events` an append, from a pool of threads."""

    def __init__(self, path: Path) -> None:
        from eventsourcing.persistence import StoredEvent
        from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

        self._event = StoredEvent
        self.datastore: Any = SQLiteDatastore(str(path), lock_timeout=60)
        self.recorder: Any = SQLiteApplicationRecorder(self.datastore)
        self.recorder.create_table()
        self._versions: dict[int, int] = {}
        self.ids = [uuid.UUID(int=number) for number in range(STREAMS)]
        self._pool = ThreadPoolExecutor(_THREADS)

    @staticmethod
    def missing() -> str:
        """Why it cannot run here, "" if it can."""
        found = importlib.util.find_spec("eventsourcing")
        return "" if found else "not installed: python -m bench install"

    @staticmethod
    def version() -> str:
        """Which one."""
        return f"eventsourcing {importlib.metadata.version('eventsourcing')}"

    def events(self, first: int, count: int) -> list[Any]:
        """Stored events of `count` aggregates in turn."""
        made = []
        for number in range(first, first + count):
            stream = number % STREAMS
            self._versions[stream] = version = self._versions.get(stream, 0) + 1
            made.append(self._event(self.ids[stream], version, "mail:CheckProgress", BODY))
        return made

    async def append(self, first: int, count: int) -> None:
        """Return when they are recorded."""
        job = functools.partial(self.recorder.insert_events, self.events(first, count))
        await asyncio.get_running_loop().run_in_executor(self._pool, job)

    async def close(self) -> None:
        """Let go of the file."""
        self._pool.shutdown()
        self.datastore.close()


class JetStreamAppender:
    """Messages published and acknowledged one by one; a batch is not atomic there."""

    def __init__(self, publisher: Any, server: Any) -> None:
        self._publisher = publisher
        self._server = server

    @classmethod
    async def open(cls, name: str, folder: Path) -> Self:
        """Start a server with an empty stream."""
        from bench.servers.peers import ALL
        from bench.servers.peers.nats import Nats
        from bench.servers.peers.nats_publisher import Publisher

        peer = ALL[name]()
        assert isinstance(peer, Nats)
        server, port = peer.serve(folder)
        try:
            publisher = await Publisher.open(port)
            await publisher.make_stream()
        except BaseException:
            server.stop()
            raise
        return cls(publisher, server)

    async def append(self, first: int, count: int) -> None:
        """Return when every message is acknowledged."""
        await self._publisher.jetstream([(n % STREAMS, BODY) for n in range(first, first + count)])

    async def close(self) -> None:
        """Stop the server."""
        self._publisher.close()
        self._server.stop()
