"""The work of a service besides its clients: plug-ins, webhooks, care of the log's room.

On a node it begins once the node has joined. What one process does for all begins where the duty says so.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from huahuo import zh as user_words
from huahuo.actors.entities.rendezvous_hash import Share
from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.calls import user_id_of
from huahuo.actors.plugins.past import Past
from huahuo.actors.plugins.plugin import Brought, Gauges, Host, Plugin
from huahuo.app import nodes
from huahuo.app.config import Settings
from huahuo.app.process import Parts
from huahuo.cluster.coordination import Duty
from huahuo.cluster.trimming import Trimmer
from huahuo.errors import ConfigError, HuahuoError
from huahuo.eventstore.audit.index import DATABASE as INDEX
from huahuo.eventstore.audit.tables import discard
from huahuo.eventstore.care.change_notes import ChangeNotes
from huahuo.eventstore.care.pruning import Retention
from huahuo.eventstore.core.log import StoreLog
from huahuo.eventstore.deadline import cancel_all
from huahuo.eventstore.errors import Unavailable
from huahuo.eventstore.port import Log
from huahuo.eventstore.replicated.writer import ReplicaWriter
from huahuo.eventstore.sqlite.log import SqliteLog
from huahuo.refusals import ChangeRefused
from huahuo.storage.room import FreeBytes, Looking, Quotas, Room, StorageActions, size_of_files
from huahuo.storage.upkeep import Backups, Erased, Erasing, Step, facts_of, in_process, retain, rules_of
from huahuo.transport.commands.gate import Gate
from huahuo.transport.commands.publishing import Publisher
from huahuo.transport.http.api import Api
from huahuo.users.book import UserBook
from huahuo.users.login import Login


class Work:
    """The work of a service besides its clients: plug-ins, and webhooks, which are one.

    `duty` and `trimmer` are None if the service is alone; they are set before `begin`.
    """

    def __init__(self, brought: Mapping[str, Brought]) -> None:
        self._brought = brought
        self.duty: Duty | None = None
        self.trimmer: Trimmer | None = None

    async def begin(self, log: Log, parts: Parts) -> None:
        """Go on with what an earlier process left: on a node that has not joined yet, once it has."""
        own = Parts()
        parts.add_timed("work", own.stop)
        replica = nodes.replica_of(log)
        if replica is None or await nodes.joins_soon(replica):
            await self._begin(own)
            return
        joining = asyncio.create_task(self._begin_later(replica, own), name="joining")
        parts.add("joining", lambda: cancel_all([joining], 1.0))

    async def take_up(self) -> None:
        """Begin what one process does for all."""
        try:
            for brought in self._brought.values():
                await brought.work()
        except ValueError as error:
            raise ConfigError(str(error)) from error

    async def divide(self, share: Share) -> None:
        """This node's part of the work that nodes divide is another one now."""
        try:
            for brought in self._brought.values():
                await brought.divide(share)
        except ValueError as error:
            raise ConfigError(str(error)) from error

    async def known(self) -> None:
        """Whether this node's code knows all that is open now. Raises ConfigError: it does not."""
        try:
            for brought in self._brought.values():
                await brought.known()
        except ValueError as error:
            raise ConfigError(str(error)) from error

    @property
    def version(self) -> str:
        """A fingerprint of what all nodes must share before `finalize`."""
        return "".join(brought.version for _, brought in sorted(self._brought.items()))

    async def finalize(self, by: str) -> None:
        """This node's version is that of all nodes from now on. `by`: the administrator who says so."""
        for brought in self._brought.values():
            await brought.finalize(by)

    async def rest(self) -> None:
        """Another node does that now."""
        for brought in reversed(list(self._brought.values())):
            await brought.rest()

    async def _begin_later(self, replica: ReplicaWriter, parts: Parts) -> None:
        try:
            await replica.joined()
            await self._begin(parts)
        except Unavailable:
            return  # `trouble` of the replica says why, and so does /readyz
        except HuahuoError as error:
            replica.halt(str(error))

    async def _begin(self, parts: Parts) -> None:
        for name, brought in self._brought.items():
            await _begin_plugin(name, brought, parts)
        if self.duty is None:
            await self.take_up()
            return
        parts.add("node", self.duty.stop)
        await self.duty.start()
        if self.trimmer is not None:
            parts.add("trimming", self.trimmer.stop)
            self.trimmer.start()


async def _begin_plugin(name: str, brought: Brought, parts: Parts) -> None:
    parts.add(f"plug-in {name}", brought.close)
    parts.add_timed(f"work of plug-in {name}", brought.drain)
    try:
        await brought.start()
    except ValueError as error:
        raise ConfigError(str(error)) from error


class Storing:
    """What wiring holds of it."""

    def __init__(self, settings: Settings) -> None:
        self.room = Room(settings.disk_low_bytes)
        self.looking: Looking | None = None
        self.retention: Retention | None = None
        self.notes: ChangeNotes | None = None
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
            log.writer.began = self.room.count_begun(settings.streams_begun_per_day, host.ambient).note
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
            await self.quotas.start()
            parts.run("quotas", self.quotas.run())
        if isinstance(log, SqliteLog) and settings.disk_low_bytes:
            self.looking = looking = Looking(self.room, free_bytes(settings.data), host.executor)
            await looking.look()
            parts.run("free space", looking.run())
        if isinstance(log, StoreLog):
            self.notes = ChangeNotes(log, host.ambient, settings.list_changes_s)
            parts.run("changes of lists", retain(self.notes))
        if isinstance(log, StoreLog) and settings.retention:
            try:
                rules = rules_of(settings.retention)
            except ValueError as error:
                raise ConfigError(f"retention: {error}") from None
            facts = facts_of(past, registry.guarded)
            self.retention = retention = Retention(log, rules, facts, host.ambient, "service")
            parts.run("retention", retain(retention))
        if isinstance(log, SqliteLog) and settings.backup_to and settings.backup_every_s:
            self._back_up(host, parts)

    def _back_up(self, host: Host, parts: Parts) -> None:
        settings = self._settings
        every_s = settings.backup_every_s
        make = in_process(settings.data, settings.backup_to, settings.backup_keep, every_s)
        self.backups = backups = Backups(host.log, host.ambient, make, every_s)
        parts.run("backups", backups.run())

    def can_erase(self, host: Host, users: UserBook, steps: Sequence[Step]) -> None:
        """From now on, users can be erased by these steps."""
        if isinstance(host.log, StoreLog):
            self._users = users
            self._erasing = Erasing(host.log, host.ambient, steps, self._others_pruned)

    async def erase(self, user_id: int | str | None, name: str | None, by: str) -> Erased:
        """Erase a user by id or by name.

        Raises:
            ChangeRefused: there is no such user, or it is the last administrator.
        """
        erasing, users = self._erasing, self._users
        assert erasing is not None, "the service has started"
        assert users is not None, "the service has started"
        found = user_id_of(user_id)
        if found is None and name is not None:
            user = users.users.named(name)
            found = None if user is None else user.user_id
        if found is None:
            raise ChangeRefused("not_found", f"there is no user {name or user_id!r}", user_words.NO_SUCH_USER)
        erased = await erasing.erase(found, by)
        # It holds the bodies of what was pruned until it is brought forward, and their words even longer.
        discard(self._settings.data / INDEX)
        return erased

    async def _others_pruned(self) -> None:
        if self.notes is not None:
            await self.notes.drop_all()
        if self.retention is not None:
            self.retention.begin_anew()

    def stands(self) -> dict[str, Any]:
        """How the service stands, for administrators."""
        room, retention, backups = self.room, self.retention, self.backups
        return {
            "disk_free_bytes": room.free_bytes,
            "disk_low_bytes": room.low_bytes,
            "disk_low": room.is_low,
            "refused": room.refused,
            "retention": list(self._settings.retention),
            "retention_pruned": 0 if retention is None else retention.pruned,
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
            "disk_free_bytes", "Free space of the disk, 0 if not known.", lambda: room.free_bytes or 0
        )
        metrics.gauge(
            "disk_low", "1 while the disk is nearly full: what stores more is refused.",
            lambda: room.is_low,
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
            lambda: 0 if self.retention is None else self.retention.pruned,
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
