"""The room on the disk, as the service uses it: who may store more, and what keeps room by itself."""

from collections.abc import Callable
from pathlib import Path

from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.past import Past
from huahuo.actors.plugins.plugin import Gauges, Host
from huahuo.app.config import Settings
from huahuo.app.stopping import Parts
from huahuo.errors import ConfigError
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.storage.looking import FreeBytes, Looking
from huahuo.storage.retaining import Retaining, facts_of, rules_of
from huahuo.storage.room import Room
from huahuo.storage.stage import Stage
from huahuo.transport.commands.gate import Gate
from huahuo.transport.commands.publishing import Publisher
from huahuo.transport.http.api import Api


class Storing:
    """What wiring holds of it."""

    def __init__(self, settings: Settings) -> None:
        self.room = Room(Stage(settings.disk_low_bytes))
        self.looking: Looking | None = None
        self.retaining: Retaining | None = None
        self._settings = settings

    def guard(self, gate: Gate, publisher: Publisher, api: Api) -> None:
        """Let nobody store more through these doors while there is no room."""
        self.room.guard(lambda ask: setattr(gate, "refuse_growth", ask), of_users=True)
        self.room.guard(lambda ask: setattr(publisher, "refuse_growth", ask), of_users=False)
        self.room.guard(api.refuse_growth, of_users=True)

    async def begin(
        self,
        host: Host,
        free_bytes: Callable[[Path], FreeBytes],
        past: Past,
        registry: Registry,
        parts: Parts,
    ) -> None:
        """Begin to look after the room, and show it. A log in memory needs no room on a disk.

        Raises:
            ConfigError: a rule of retention cannot be read.
        """
        settings, log = self._settings, host.log
        self._show(host.metrics)
        if isinstance(log, SqliteLog) and settings.disk_low_bytes:
            self.looking = looking = Looking(self.room, free_bytes(settings.data), host.executor)
            parts.add("free space", looking.stop)
            await looking.start()
        if isinstance(log, StoreLog) and settings.retention:
            try:
                rules = rules_of(settings.retention)
            except ValueError as error:
                raise ConfigError(f"retention: {error}") from None
            self.retaining = retaining = Retaining(log, rules, facts_of(past, registry.guarded), host.ambient)
            parts.add("retention", retaining.stop)
            retaining.start()
            host.metrics.total(
                "retention_pruned", "Old events that retention removed.", lambda: retaining.pruned
            )

    def told(self) -> str | None:
        """What `/readyz` adds to `ready`."""
        return self.room.sentence()

    def _show(self, metrics: Gauges) -> None:
        room = self.room
        metrics.gauge(
            "disk_free_bytes", "Free space of the disk, 0 if not known.", lambda: room.stage.free_bytes or 0
        )
        metrics.gauge(
            "disk_low", "1 while the disk is nearly full: what stores more is refused.",
            lambda: room.stage.is_low,
        )  # fmt: skip
        metrics.total("storage_refused", "Refused for want of room, or by a quota.", lambda: room.refused)
