"""The entities of an application as one plug-in. The kind `job` is always among them."""

from collections.abc import Iterable
from typing import Any

from huahuo.actors.domain import en, jobs, projections, rebuilding, remote_jobs, row_versions, zh
from huahuo.actors.domain.api import EntityApi
from huahuo.actors.domain.catalog import Catalog
from huahuo.actors.domain.entity import Entity
from huahuo.actors.domain.errors import DefinitionError, place_of_user
from huahuo.actors.domain.following import Following
from huahuo.actors.domain.lists import Lists
from huahuo.actors.domain.past import past_of
from huahuo.actors.domain.plugin_jobs import PluginJobs
from huahuo.actors.domain.settings import EntitySettings
from huahuo.actors.domain.unhandled import refuse_unhandled
from huahuo.actors.plugins.past import Past
from huahuo.actors.plugins.plugin import Brought, Host, Plugin
from huahuo.actors.timers.clockwork import Clockwork


class Entities(Plugin):
    """See the module.

    Raises:
        DefinitionError: the declarations contradict each other.
    """

    name = "entities"
    settings = EntitySettings

    def __init__(self, entities: Iterable[Entity[Any]]) -> None:
        if not isinstance(entities, Iterable):
            raise DefinitionError(
                f"{place_of_user()}: entities: {entities!r:.60} is no list: write entities=[order]"
            )
        job = jobs.job_entity()
        remote_jobs.add_to(job)
        self.catalog = Catalog((job, *entities))
        self.lists = Lists(self._taken)
        self.following = Following()
        self.clockwork: Clockwork | None = None
        """What fires the timers, once they were brought to a service."""
        self._past = past_of(self.catalog)

    @property
    def event_types(self) -> frozenset[str]:
        """See `Plugin`."""
        return self.catalog.event_types

    @property
    def past(self) -> Past:
        """See `Plugin`."""
        return self._past

    def _taken(self, action: str) -> str | None:
        if action in self.catalog.by_action:
            return f"it is the action of {self.catalog.by_action[action][1].__name__}"
        asked = next((one for one in self.catalog.by_kind.values() if action in one.queries), None)
        return None if asked is None else f"Entity({asked.kind!r}) answers it already"

    def bring(self, host: Host) -> Brought:
        """See `Plugin`."""
        self.catalog.refuse_late()
        refuse_unhandled(self.catalog.by_kind.values())
        self.catalog.warn()
        self.following.check(
            {*self.catalog.by_kind, *host.directory.kinds}, rebuilding.tables(host.log, self.catalog)
        )
        api = EntityApi(self.catalog, host, tuple(self.following.by_name.values()))
        host.jobs.open(PluginJobs(api.jobs))
        api.followers.show(host.metrics)
        effects = api.effects
        effects.show(host.metrics)
        self.clockwork = timers = api.timers
        host.metrics.gauge(
            "timers_in_memory", "Timers that are read ahead or being fired.", lambda: timers.in_memory
        )
        host.metrics.gauge(
            "timers_late_seconds", "How long the oldest due timer has waited.", lambda: timers.late_s
        )
        host.metrics.total("timers_fired", "Timers whose command was decided.", lambda: timers.fired)
        host.metrics.total("timers_failed", "Firings that failed and are tried again.", lambda: timers.failed)
        return Brought(
            kinds=api.kinds(),
            actions=[
                *api.clients.actions(),
                *(api.clients.list_action(one) for one in self.lists.by_action.values()),
                *projections.actions(host, self.catalog, api.followers),
            ],
            snapshots=dict.fromkeys(self.catalog.by_kind, api.snapshot),
            guarded=frozenset({*self.catalog.by_kind, "effect", "timer", "projection"}),
            right_types=self.catalog.right_types,
            words=(zh, en),
            at_work=effects.at_work,
            start=api.start,
            work=api.work,
            divide=api.divide,
            known=api.known,
            version=row_versions.code_of_all(self.catalog),
            finalize=api.finalize,
            drain=api.drain,
            close=api.close,
            trace=effects.trace,
            idle=api.idle,
            api=api,
        )
