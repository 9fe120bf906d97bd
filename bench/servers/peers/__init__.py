"""The systems that huahuo is compared with: one file for each family, started on loopback."""

from collections.abc import Sequence

from bench.harness.harness import Options, Sheet
from bench.servers.peers.base import Peer
from bench.servers.peers.floors import Floor
from bench.servers.peers.huahuo import Huahuo, HuahuoTransport, HuahuoWorkers
from bench.servers.peers.nats import JetStream, JetStreamDefault, Nats
from bench.servers.peers.node_servers import Bun, SocketIO, Ws

ALL: dict[str, type[Peer]] = {
    peer.name: peer
    for peer in (
        Huahuo,
        HuahuoTransport,
        HuahuoWorkers,
        SocketIO,
        Ws,
        Bun,
        Nats,
        JetStream,
        JetStreamDefault,
        Floor,
    )
}


def wanted(names: Sequence[str], options: Options, sheet: Sheet) -> list[str]:
    """Those of `names` that were asked for and are installed; the sheet tells of the others."""
    found = []
    for name in names:
        if name not in ALL or not options.wants(name):
            if options.wants(name):
                sheet.miss(name, "not known")
            continue
        peer = ALL[name]()
        why = peer.missing()
        if why:
            sheet.miss(name, why)
        else:
            found.append(name)
            sheet.note(f"{name}: {peer.version()}{'; ' + peer.note if peer.note else ''}")
    return found
