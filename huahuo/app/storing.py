"""The room on the disk, as the service uses it: who may store more, and what keeps room by itself."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.past import Past
from huahuo.actors.plugins.plugin import Gauges, Host, Plugin
from huahuo.actors.plugins.principal import user_id_of
from huahuo.app.config import Settings
from huahuo.app.stopping import Parts
from huahuo.errors import ConfigError
from huahuo.eventstore.audit.index import DATABASE as INDEX
from huahuo.eventstore.audit.tables import discard
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.sqlite.open import SqliteLog
from huahuo.storage.actions import StorageActions
from huahuo.storage.backups import Backups, in_process
from huahuo.storage.erasing import Erased, Erasing, Step
from huahuo.storage.looking import FreeBytes, Looking
from huahuo.storage.quotas import Quotas, size_of_files
from huahuo.storage.retaining import Retaining, facts_of, rules_of
from huahuo.storage.room import Room
from huahuo.storage.stage import Stage
from huahuo.transport.commands.gate import Gate
from huahuo.transport.commands.publishing import Publisher
from huahuo.transport.http.api import Api
from huahuo.users import zh as user_words
from huahuo.users.book import UserBook
from huahuo.users.login import Login
from huahuo.users.users import UserRefused


class Storing:
    """What wiring holds of it."""

    def __init__(self, settings: Settings) -> None:
        self.room = Room(Stage(settings.disk_low_bytes))
        self.looking: Looking | None = None
        self.retaining: Retaining | None = None
        self.backups: Backups | None = None
        self.quotas: Quotas | None = None
        self._erasing: Erasing | None = None
        self._users: UserBook | None = None
        self._settings = settings

    def register(self, host: Host, plugins: Sequence[Plugin], registry: Registry) -> None:
        """Count what users take, and offer the actions on it. Call before the server is described."""
        settings, log = self._settings, host.log
        if not isinstance(log, StoreLog):
            return
        if settings.streams_begun_per_day:
            log.tell_begun(self.room.count_begun(settings.streams_begun_per_day, host.ambient).note)
        files = [settings.data / name for plugin in plugins for name in plugin.projections.values()]
        self.quotas = Quotas(
            log, host.ambient, self.room, settings.user_bytes_max, lambda: size_of_files(*files)
        )
        StorageActions(self.quotas, self.stands, self.erase).register(registry)

    def guard(self, gate: Gate, publisher: Publisher, api: Api, login: Login) -> None:
        """Refuse growth by these ways while there is no room."""
        self.room.guard(lambda ask: setattr(gate, "refuse_growth", ask), of_users=True)
        self.room.guard(lambda ask: setattr(publisher, "refuse_growth", ask), of_users=False)
        self.room.guard(api.refuse_growth, of_users=True)
        self.room.guard(lambda ask: setattr(login, "refuse_growth", ask), of_users=False)

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
            ConfigError: a rule of retention cannot be read, or backups have no target.
        """
        settings, log = self._settings, host.log
        self._show(host.metrics)
        if self.quotas is not None:
            parts.add("quotas", self.quotas.stop)
            await self.quotas.start()
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
        if isinstance(log, SqliteLog) and settings.backup_to and settings.backup_every_s:
            self._back_up(host, parts)

    def _back_up(self, host: Host, parts: Parts) -> None:
        settings = self._settings
        every_s = settings.backup_every_s
        make = in_process(settings.data, settings.backup_to, settings.backup_keep, every_s)
        self.backups = backups = Backups(host.log, host.ambient, make, every_s)
        parts.add("backups", backups.stop)
        backups.start()

    def can_erase(self, host: Host, users: UserBook, steps: Sequence[Step]) -> None:
        """From now on, users can be erased by these steps."""
        if isinstance(host.log, StoreLog):
            self._users = users
            self._erasing = Erasing(host.log, host.ambient, steps, self._others_pruned)

    async def erase(self, user_id: int | str | None, name: str | None, by: str) -> Erased:
        """Erase a user by id or by name.

        Raises:
            UserRefused: there is no such user, or it is the last administrator.
        """
        erasing, users = self._erasing, self._users
        assert erasing is not None, "the service has started"
        assert users is not None, "the service has started"
        found = user_id_of(user_id)
        if found is None and name is not None:
            user = users.users.named(name)
            found = None if user is None else user.user_id
        if found is None:
            raise UserRefused("not_found", f"there is no user {name or user_id!r}", user_words.NO_SUCH_USER)
        erased = await erasing.erase(found, by)
        # It holds the bodies of what was pruned until it is brought forward, and their words even longer.
        discard(self._settings.data / INDEX)
        return erased

    def _others_pruned(self) -> None:
        if self.retaining is not None:
            self.retaining.begin_anew()

    def stands(self) -> dict[str, Any]:
        """How the service stands, for administrators."""
        stage, retaining, backups = self.room.stage, self.retaining, self.backups
        return {
            "disk_free_bytes": stage.free_bytes,
            "disk_low_bytes": stage.low_bytes,
            "disk_low": stage.is_low,
            "refused": self.room.refused,
            "retention": list(self._settings.retention),
            "retention_pruned": 0 if retaining is None else retaining.pruned,
            "backup_ms": None if backups is None else backups.newest_ms,
            "backup_failure": None if backups is None else backups.failure,
            "user_bytes_max": self._settings.user_bytes_max or None,
        }

    def told(self) -> str | None:
        """What `/readyz` adds to `ready`."""
        failed = None if self.backups is None else self.backups.sentence()
        return "; ".join(one for one in (self.room.sentence(), failed) if one is not None) or None

    def _show(self, metrics: Gauges) -> None:
        room = self.room
        metrics.gauge(
            "disk_free_bytes", "Free space of the disk, 0 if not known.", lambda: room.stage.free_bytes or 0
        )
        metrics.gauge(
            "disk_low", "1 while the disk is nearly full: what stores more is refused.",
            lambda: room.stage.is_low,
        )  # fmt: skip
        metrics.gauge("users_over_quota", "Users that have used up their quota.", lambda: len(room.over))
        metrics.gauge(
            "users_over_streams", "Users that have begun too many streams within a day.",
            lambda: 0 if room.begun is None else len(room.begun.over),
        )  # fmt: skip
        metrics.total("storage_refused", "Refused for want of room, or by a quota.", lambda: room.refused)
        metrics.total(
            "retention_pruned",
            "Old events that retention removed.",
            lambda: 0 if self.retaining is None else self.retaining.pruned,
        )
        metrics.gauge(
            "backup_failed",
            "1 if the last backup of the schedule failed.",
            lambda: self.backups is not None and self.backups.failure is not None,
        )
        metrics.gauge(
            "backup_age_seconds",
            "Age of the newest backup of the schedule, 0 if not known.",
            lambda: 0.0 if self.backups is None else self.backups.age_s,
        )
        metrics.total(
            "backup_failures",
            "Backups of the schedule that failed.",
            lambda: 0 if self.backups is None else self.backups.failures,
        )
