"""What this node and the others ask of each other, put together."""

from huahuo.app import keys, nodes
from huahuo.app.config import Settings
from huahuo.cluster import signing
from huahuo.cluster.asking import Asker
from huahuo.cluster.door import NodesDoor
from huahuo.cluster.duty import Duty
from huahuo.cluster.peers import Peers
from huahuo.eventstore.ambient import Ambient
from huahuo.eventstore.core.seal import derive
from huahuo.eventstore.port import Log
from huahuo.transport.http.api import Api


def peers_of(settings: Settings, log: Log, ambient: Ambient, api: Api, duty: Duty | None) -> Peers | None:
    """The other nodes, and the door at which they ask this one; None if the service is alone."""
    replica = nodes.replica_of(log)
    if replica is None or duty is None:
        return None
    secret = derive(keys.read(settings).master_key, signing.PURPOSE)
    door = NodesDoor(secret=secret, node=replica.node, log_id=log.log_id, ambient=ambient)
    api.serve_nodes(door)
    asker = Asker(secret=secret, node=replica.node, log_id=log.log_id, ambient=ambient)
    return Peers(asker, door, members=lambda: duty.members, silent_s=duty.silent_s)
