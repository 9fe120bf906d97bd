"""What the owner's side of every worker uses, and what a worker is told first."""

import msgspec

from huahuo.actors.plugins.actions import Registry
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.model import LOG_STREAM
from huahuo.eventstore.port import Log
from huahuo.replay.live.feed import Feed
from huahuo.transport.access.door import AddressDoor
from huahuo.transport.access.verified import Verifier
from huahuo.transport.commands.gate import Gate
from huahuo.transport.protocol.limits import TransportSettings
from huahuo.transport.server.hub import Hub
from huahuo.transport.server.metrics import Metrics
from huahuo.transport.server.server import Server
from huahuo.transport.workers.messages import ActionFacts, Hello


class Manners(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told of the settings. The limits in `settings` are those of one worker."""

    settings: TransportSettings
    dictionary: bytes
    language: str
    trusted_proxies: tuple[str, ...]
    tail_events_max: int
    tail_bytes_max: int
    log_level: str
    log_json: bool


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """The service that a worker serves sockets of."""

    log: Log
    feed: Feed
    registry: Registry
    gate: Gate
    hub: Hub
    door: AddressDoor
    verifier: Verifier
    server: Server
    metrics: Metrics
    ambient: Ambient
    fingerprint_key: bytes
    judges_others: bool
    manners: Manners

    def hello(self, number: int) -> Hello:
        """The first message to a worker."""
        registry, manners = self.registry, self.manners
        return Hello(
            number=number,
            settings=manners.settings,
            log_id=self.log.log_id,
            position=self.log.position,
            chain=self.log.head(LOG_STREAM).link,
            fingerprint_key=self.fingerprint_key,
            dictionary=manners.dictionary,
            language=manners.language,
            trusted_proxies=manners.trusted_proxies,
            tail_events_max=manners.tail_events_max,
            tail_bytes_max=manners.tail_bytes_max,
            actions=tuple(
                ActionFacts(spec.action, spec.query, spec.compressible) for spec in registry.commands.values()
            ),
            snapshots=tuple(registry.snapshots),
            judges=tuple(registry.judges),
            judges_others=self.judges_others,
            right_types=tuple(registry.right_types),
            words=registry.words.catalogue(),
            has_tongues=bool(registry.tongues),
            shared_log=self.feed.catch_up is not None,
            log_level=manners.log_level,
            log_json=manners.log_json,
        )


def share(settings: TransportSettings, workers: int) -> TransportSettings:
    """The limits of one of `workers`: bounds of memory and of the lobby are divided, so their sum holds."""
    if workers <= 1:
        return settings

    def part(whole: int, least: int = 1) -> int:
        return max(least, -(-whole // workers)) if whole else whole

    return msgspec.structs.replace(
        settings,
        unsent_bytes_max=part(settings.unsent_bytes_max, settings.unsent_bytes_per_connection),
        frame_cache_bytes_max=part(settings.frame_cache_bytes_max),
        unauthenticated_max=part(settings.unauthenticated_max),
        unauthenticated_per_address=part(settings.unauthenticated_per_address),
        lobby_bytes_max=part(settings.lobby_bytes_max),
        intake_bytes_max=part(settings.intake_bytes_max),
    )
