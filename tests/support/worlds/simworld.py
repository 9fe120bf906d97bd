"""The whole service in a simulated world: network, clock, chance and disk from one seed (simloop).

Hosts are made before any fault. The log's disk is a `ModelDisk` that loses what was not synced; it is
the only thing that survives `crash`.
"""

import asyncio
import random
from pathlib import Path
from typing import Any

from simloop import SimLoop

from huahuo.actors.plugins.calls import Principal
from huahuo.app import credentials
from huahuo.app.application import standard
from huahuo.app.config import Settings
from huahuo.app.foundation import World
from huahuo.app.service_port import WaitingRoom
from huahuo.app.wiring import App
from huahuo.eventstore.ambient import Ambient, FakeAmbient
from huahuo.eventstore.executor import InlineExecutor
from huahuo.eventstore.memory import MemoryLog, ModelDisk
from huahuo.eventstore.port import Log
from huahuo.mailcheck.plugin.mail import MailOptions
from huahuo.transport.access.tokens import Authenticator
from tests.support.simulator.names import simulated_names

EPOCH_MS = 1_790_000_000_000
SERVER, PORT = "server", 8765
SECRET = "s" * 40


class SimAmbient(FakeAmbient):
    """The simulated clock, and chance from a seed."""

    def now_ms(self) -> int:
        return EPOCH_MS + round(self.monotonic_s() * 1000)

    def monotonic_s(self) -> float:
        return asyncio.get_running_loop().time()


class SimServer:
    """The service on its host. `crash` is a power cut: what was not synced may be gone or torn."""

    def __init__(self, loop: SimLoop, data: Path) -> None:
        self.loop = loop
        self.disk = ModelDisk()
        self.lives = 0
        self._data = data
        self._rng = random.Random(loop.seed)
        self._host = loop.net.host(SERVER)
        self._up = asyncio.Event()

    def settings(self) -> Settings:
        return Settings(
            data=self._data,
            host=SERVER,
            port=PORT,
            jwt_secret=SECRET,
            master_key="5a" * 32,
            connections_per_ip=0,
            unauthenticated_per_ip=0,
            heartbeat_s=5,
            plugins={"mail": MailOptions(mail_allow_private=True)},
        )

    async def start(self) -> None:
        """Boot, and wait until it listens."""
        self._up.clear()
        self.lives += 1
        life = self._host.create_task(self._live(SimAmbient(f"server {self.loop.seed} {self.lives}")))
        up = asyncio.ensure_future(self._up.wait())
        await asyncio.wait({life, up}, return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            await life  # it could not start: say why

    def crash(self) -> None:
        self._host.crash()
        self.disk.crash(self._rng)

    async def restart(self) -> None:
        self._host.restart()
        await self.start()

    def token(self, user_id: int, name: str, *, admin: bool = False) -> str:
        return Authenticator(SECRET.encode()).mint(
            Principal(user_id, name, is_admin=admin), now_ms=EPOCH_MS, ttl_s=86_400, jti=f"jti-{name}"
        )

    async def _live(self, ambient: Ambient) -> None:
        async def open_log(
            _settings: Settings, secrets: credentials.Keys, ambient: Ambient, _room: WaitingRoom
        ) -> Log:
            return await MemoryLog.open(
                self.disk,
                ambient=ambient,
                master_key=secrets.master_key,
                build="sim",
                executor=InlineExecutor(),
            )

        world = World(
            open_log=open_log,
            make_executor=InlineExecutor,
            resolver=lambda: simulated_names,
            publish_address=False,
        )
        app = App(self.settings(), ambient, world, plugins=standard())
        await app.start()
        self._up.set()
        await asyncio.Event().wait()


def run(world: Any, seed: int) -> str:
    """Run `world(loop)` on a loop of this seed; the hash of everything that happened."""
    loop = SimLoop(seed)
    try:
        loop.run_until_complete(world(loop))
        return loop.trace_hash()
    finally:
        loop.run_until_complete(end_everything(loop))
        loop.close()


async def end_everything(loop: SimLoop) -> None:
    """Let every machine's tasks end while there still is a world to end in."""
    mine = asyncio.current_task()
    rest = [task for task in asyncio.all_tasks(loop) if task is not mine]
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await asyncio.sleep(3)
