"""What every connection of a server uses."""

import msgspec

from huahuo.actors import Runtime
from huahuo.eventstore.ambient import Ambient
from huahuo.replay.live.feed import Feed
from huahuo.transport.access.door import Door
from huahuo.transport.access.verified import Verifier
from huahuo.transport.server.ack_reader import AckReader
from huahuo.transport.server.fanout import FanOut
from huahuo.transport.server.notices import Notices
from huahuo.transport.server.outbox import Outbox
from huahuo.transport.server.ports import CommandGate, Hub, Meter
from huahuo.transport.server.sends import Sends
from huahuo.transport.server.supply import Supply
from huahuo.transport.server.verdicts import Verdicts
from huahuo.transport.session.shared import Shared


class Wires(msgspec.Struct, frozen=True, kw_only=True):
    """What every connection of a server uses."""

    shared: Shared
    runtime: Runtime
    ambient: Ambient
    feed: Feed
    fanout: FanOut
    hub: Hub
    door: Door
    gate: CommandGate
    verifier: Verifier
    meter: Meter
    supply: Supply
    notices: Notices
    verdicts: Verdicts
    outbox: Outbox
    sends: Sends
    ack_reader: AckReader
