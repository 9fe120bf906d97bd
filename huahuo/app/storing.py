"""The room on the disk, as the service uses it: who may store more, and what keeps room by itself."""

from huahuo.app.config import Settings
from huahuo.app.stopping import Parts
from huahuo.app.world import World
from huahuo.eventstore.executor import Executor
from huahuo.eventstore.port import Log
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.storage.looking import Looking
from huahuo.storage.room import Room
from huahuo.storage.stage import Stage
from huahuo.transport.commands.gate import Gate
from huahuo.transport.commands.publishing import Publisher
from huahuo.transport.http.api import Api
from huahuo.transport.server.metrics import Metrics


class Storing:
    """What wiring holds of it."""

    def __init__(self, settings: Settings) -> None:
        self.room = Room(Stage(settings.disk_low_bytes))
        self.looking: Looking | None = None
        self._settings = settings

    def guard(self, gate: Gate, publisher: Publisher, api: Api) -> None:
        """Let nobody store more through these doors while there is no room."""
        self.room.guard(lambda ask: setattr(gate, "refuse_growth", ask), of_users=True)
        self.room.guard(lambda ask: setattr(publisher, "refuse_growth", ask), of_users=False)
        self.room.guard(api.refuse_growth, of_users=True)

    async def begin(self, log: Log, world: World, executor: Executor, metrics: Metrics, parts: Parts) -> None:
        """Begin to look after the room, and show it. A log in memory needs no room on a disk."""
        settings = self._settings
        self._show(metrics)
        if isinstance(log, SqliteLog) and settings.disk_low_bytes:
            self.looking = looking = Looking(self.room, world.free_bytes(settings.data), executor)
            parts.add("free space", looking.stop)
            await looking.start()

    def told(self) -> str | None:
        """What `/readyz` adds to `ready`."""
        return self.room.sentence()

    def _show(self, metrics: Metrics) -> None:
        room = self.room
        metrics.gauge(
            "disk_free_bytes", "Free space of the disk, 0 if not known.", lambda: room.stage.free_bytes or 0
        )
        metrics.gauge(
            "disk_low", "1 while the disk is nearly full: what stores more is refused.",
            lambda: room.stage.is_low,
        )  # fmt: skip
        metrics.total("storage_refused", "Refused for want of room, or by a quota.", lambda: room.refused)
